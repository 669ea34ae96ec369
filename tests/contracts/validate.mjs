// Reads the schemas with ajv in strict mode and the AsyncAPI document with its official parser; prints what is wrong.
//
// node validate.mjs CONTRACTS < CASES, with ajv and @asyncapi/parser in the working directory's node_modules. CASES is
// a JSON array of [schema, document, whether it is valid].
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "any.js"));
const Ajv = require("ajv/dist/2020").default;
const { Parser } = require("@asyncapi/parser");
const contracts = process.argv[2];
const say = (...words) => console.log(words.join(": "));

const validators = new Map();
for (const file of readdirSync(join(contracts, "schemas"))) {
  const warn = (message) => say(file, message);
  const ajv = new Ajv({ strict: true, logger: { log: warn, warn, error: warn } });
  try {
    validators.set(file, ajv.compile(JSON.parse(readFileSync(join(contracts, "schemas", file), "utf8"))));
  } catch (error) {
    say(file, error.message);
  }
}
for (const [schema, document, valid] of JSON.parse(readFileSync(0, "utf8"))) {
  const validate = validators.get(`${schema}.json`);
  if (validate && validate(document) !== valid) {
    say(schema, valid ? "refuses" : "takes", JSON.stringify(document), JSON.stringify(validate.errors));
  }
}

const { document, diagnostics } = await new Parser().parse(readFileSync(join(contracts, "asyncapi.yaml"), "utf8"));
for (const found of diagnostics) say("asyncapi.yaml", found.path.join("/"), found.message);
if (document?.version() !== "3.1.0") say("asyncapi.yaml", "is not read as AsyncAPI 3.1.0");
