// Send commands as contracts/README.md says, and check what comes back. An example to read and to take over.
//
//     node client.mjs mqtt://HOST:PORT TOKEN.jwk SERVICE [PREFIX]
//
// writes a config, writes it again at the version that it has, is refused a third write at the old version, reads it, and
// waits for its signed update. It needs Node 18 and, where this file is, `npm install mqtt`; all that signs is Node's own.

import { createHmac, createPrivateKey, createPublicKey, randomUUID, sign, timingSafeEqual, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import mqtt from "mqtt";

const encode = (data) => Buffer.from(data).toString("base64url");
const decode = (text) => Buffer.from(text, "base64url");
const mac = (key, text) => createHmac("sha256", decode(key.k)).update(text).digest();

/** Sign a command with a token. Sent again as it is, it is answered again and has no second effect. */
export function signed(token, topic, params) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { jti: randomUUID(), aud: topic, iat, exp: iat + 60, params };
  const said = `${encode(JSON.stringify({ alg: token.alg, kid: token.kid }))}.${encode(JSON.stringify(claims))}`;
  const { kty, crv, x, d } = token;
  const pair = () => createPrivateKey({ key: { kty, crv, x, d }, format: "jwk" });
  const signature = token.alg === "HS256" ? mac(token, said) : sign(null, Buffer.from(said), pair());
  return { jti: claims.jti, payload: `${said}.${encode(signature)}` };
}

/** Whether one of these keys signed a message for the topic on which it came; `jws` is its user property. */
export function isSigned(keys, topic, payload, jws) {
  const [, head, signature] = /^([\w-]+)\.\.([\w-]+)$/.exec(typeof jws === "string" ? jws : "") ?? [];
  const header = head === undefined ? {} : read(decode(head));
  const key = keys.find((known) => known?.kid === header.kid);
  if (!key || header.alg !== key.alg || header.topic !== topic || Object.keys(header).length !== 3) return false;
  const [said, bytes] = [`${head}.${encode(payload)}`, decode(signature)];
  if (key.alg === "HS256") return bytes.length === 32 && timingSafeEqual(mac(key, said), bytes);
  try {
    const { kty, crv, x } = key;
    return verify(null, Buffer.from(said), createPublicKey({ key: { kty, crv, x }, format: "jwk" }), bytes);
  } catch {
    return false; // it is no Ed25519 key
  }
}

/** Read an object; an empty one for anything else, since anybody may publish anything. */
function read(bytes) {
  try {
    return Object(JSON.parse(bytes));
  } catch {
    return {};
  }
}

/** A connected principal. It believes the daemon's key that it sees first; give it that key where others may publish. */
export class Client {
  #waiting = new Map();
  #keys = [];
  onUpdate = () => {}; // may be an older document: a follower keeps to the order of follower.mjs

  async connect(url, token, prefix = "") {
    Object.assign(this, { token, prefix, mqtt: await mqtt.connectAsync(url, { protocolVersion: 5 }) });
    const keysKnown = new Promise((known) => this.mqtt.on("message", (...message) => this.#take(known, ...message)));
    const topics = ["system/keys/config-manager", `config/reply/${token.name}/#`];
    await this.mqtt.subscribeAsync(topics.map((topic) => prefix + topic), { qos: 1 });
    await keysKnown;
  }

  /** Send a command; gives its reply, be it ok or an error. */
  async call(command, params = {}) {
    const topic = `${this.prefix}config/cmd/${command}`;
    const { jti, payload } = signed(this.token, topic, params);
    const reply = new Promise((answered, failed) => {
      this.#waiting.set(jti, answered);
      setTimeout(failed, 5000, new Error(`no reply to ${command}: send the same bytes again`)).unref();
    });
    await this.mqtt.publishAsync(topic, payload, { qos: 1 });
    return reply.finally(() => this.#waiting.delete(jti));
  }

  #take(keysKnown, fullTopic, payload, { properties }) {
    const [topic, said] = [fullTopic.slice(this.prefix.length), read(payload)];
    const isFirstKeySet = topic.startsWith("system/keys/") && this.#keys.length === 0;
    const isReply = topic.startsWith("config/reply/");
    const keys = isFirstKeySet ? [said.keys].flat() : isReply && this.token.alg === "HS256" ? [this.token] : this.#keys;
    if (!isSigned(keys, fullTopic, payload, properties?.userProperties?.jws)) return;
    if (isFirstKeySet) keysKnown((this.#keys = keys));
    if (isReply) this.#waiting.get(said.id)?.(said);
    if (topic.startsWith("config/updated/")) this.onUpdate(said);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url, file, service, prefix] = process.argv.slice(2);
  if (service === undefined) {
    console.error("usage: node client.mjs mqtt://HOST:PORT TOKEN.jwk SERVICE [PREFIX]");
    process.exit(2);
  }
  const client = new Client();
  await client.connect(url, JSON.parse(readFileSync(file, "utf8")), prefix);
  const call = async (command, params) => {
    const reply = await client.call(command, params);
    console.log(JSON.stringify(reply));
    return reply;
  };
  const { version } = (await call("set", { service, config: { model: "small" } })).result;
  await call("set", { service, config: { model: "large" }, expected_version: version });
  const { current } = (await call("set", { service, config: { model: "tiny" }, expected_version: version })).error.details;
  await call("get", { service, key: "model" });
  const update = new Promise((came) => (client.onUpdate = (said) => said.revision >= current.revision && came(said)));
  await client.mqtt.subscribeAsync(`${client.prefix}config/updated/${service}`, { qos: 1 });
  console.log(JSON.stringify(await update));
  await client.mqtt.endAsync();
}
