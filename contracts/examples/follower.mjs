// Follow configs as contracts/following.md says. An example to read and to take over.
//
//     node follower.mjs VECTORS.json                            go through a file of vectors/, e.g. followers.json
//     node follower.mjs mqtt://HOST:PORT STATE.json [PREFIX]    follow a broker, and go on from STATE.json the next time
//
// Both print one line of JSON for each message: what became of it, and what is held then. The algorithm needs Node 18
// and nothing else; to follow a broker, run `npm install mqtt` where this file is.

import { createPublicKey, verify } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * Knows of every service the newest document that a pinned key signed, tombstones too. No network, file or clock.
 *
 * `pinned` are public Ed25519 JWKs; with none, the key of the first key set is pinned. `holds` maps a service to its
 * document. Both may be looked at and kept after every message, to make a new Follower of.
 */
export class Follower {
  constructor(pinned, holds, prefix = "") {
    this.pinned = pinned;
    this.holds = new Map(Object.entries(holds));
    this.keys = `${prefix}system/keys/config-manager`;
    this.updated = `${prefix}config/updated/`;
  }

  /** Take a message, retained or not; `jws` is its user property. Returns its outcome, a word of the table. */
  take(topic, payload, jws) {
    if (payload.length === 0) return "empty";
    if (jws === undefined) return "unsigned";
    const signedBy = (jwk) => isSigned(jwk, topic, payload, jws);
    if (topic === this.keys && this.pinned.length > 0) return this.pinned.some(signedBy) ? "known_key" : "other_key";
    if (topic === this.keys) return this.#pin(read(payload)?.keys, signedBy);
    if (this.pinned.length === 0) return "no_key";
    if (!this.pinned.some(signedBy)) return "bad_signature";
    const service = topic.startsWith(this.updated) ? topic.slice(this.updated.length) : null;
    return this.#takeDocument(service, read(payload));
  }

  #pin(keys, signedBy) {
    const signer = Array.isArray(keys) ? keys.find(signedBy) : undefined;
    if (signer === undefined) return "other_key";
    const { kty, crv, kid, x } = signer;
    this.pinned = [{ kty, crv, kid, x }];
    return "pinned";
  }

  #takeDocument(service, document) {
    if (!isDocument(document, service)) return "bad_document";
    const held = this.holds.get(service);
    const newer = held && (document.epoch - held.epoch || document.revision - held.revision);
    if (held && newer <= 0) return newer === 0 ? "same" : "older";
    this.holds.set(service, document);
    return "taken";
  }
}

/** Whether this key made the signature; false also for what is no public Ed25519 JWK. */
function isSigned(jwk, topic, payload, jws) {
  const [, head, signature] = /^([\w-]+)\.\.([\w-]+)$/.exec(jws) ?? [];
  if (head === undefined || jwk?.kty !== "OKP" || jwk.crv !== "Ed25519") return false;
  const header = read(fromBase64url(head) ?? "");
  const expected = { alg: "Ed25519", kid: jwk.kid, topic };
  const fits = header !== null && Object.keys(header).length === 3;
  if (!fits || !Object.entries(expected).every(([name, value]) => header[name] === value)) return false;
  const bytes = fromBase64url(signature);
  if (bytes === null) return false;
  try {
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: jwk.x }, format: "jwk" });
    return verify(null, Buffer.from(`${head}.${payload.toString("base64url")}`), key, bytes);
  } catch {
    return false;
  }
}

/** Decode base64url; null for what has padding or bits that no byte has: one signature, one spelling. */
function fromBase64url(text) {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : null;
}

/** Whether it says which version of this service it is, and either its config or that it is deleted. */
function isDocument(document, service) {
  if (!isObject(document) || document.service !== service) return false;
  const counts = [document.version, document.revision, document.epoch];
  if (!counts.every((count) => Number.isSafeInteger(count) && count >= 0)) return false;
  return "deleted" in document ? document.deleted === true && !("config" in document) : isObject(document.config);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Read JSON as strictly as wire section 2 asks; null for anything else. */
function read(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text);
    // JSON.parse lets the last of two equal keys win, and rounds integers. It has accepted the text, so every string
    // before a colon is a key, and what else begins with a digit is a number.
    const tokens = text.match(/"(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d[\d.eE+-]*/g) ?? [];
    const integers = tokens.filter((token) => /^-?\d+$/.test(token)).map(BigInt);
    const fits = integers.every((integer) => BigInt.asIntN(64, integer) === integer);
    return fits && keysOf(value) === tokens.filter((token) => token.endsWith(":")).length ? value : null;
  } catch {
    return null;
  }
}

/** Count the keys of all objects in a value; throws for what must not be there: Infinity, half characters, 33 levels. */
function keysOf(value, levels = 32) {
  if (typeof value === "string" && /\p{Surrogate}/u.test(value)) throw new RangeError("a lone surrogate");
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError("too large");
  if (typeof value !== "object" || value === null) return 0;
  if (levels === 0) throw new RangeError("too deep");
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  return [...keys, ...Object.values(value)].reduce((sum, child) => sum + keysOf(child, levels - 1), keys.length);
}

/** Print for each message of a file of vectors what became of it. */
function goThrough(path) {
  for (const sequence of JSON.parse(readFileSync(path, "utf-8")).sequences) {
    const follower = new Follower(sequence.pinned, sequence.holds, sequence.topic_prefix);
    for (const { topic, payload, jws } of sequence.messages) {
      const outcome = follower.take(topic, Buffer.from(payload), jws);
      print({ sequence: sequence.name, outcome, holds: Object.fromEntries(follower.holds) });
    }
  }
}

/** Follow all services on a broker; what is lost is connected to again, and then everything retained comes again. */
async function follow(url, path, prefix = "") {
  const stored = existsSync(path) ? JSON.parse(readFileSync(path, "utf-8")) : { pinned: [], holds: {} };
  const follower = new Follower(stored.pinned, stored.holds, prefix);
  const { default: mqtt } = await import("mqtt");
  const client = mqtt.connect(url, { protocolVersion: 5 }); // 3.1.1 has no user properties, so no signatures
  client.on("error", (error) => console.error(`follower: ${error.message}`));
  client.on("message", (topic, payload, packet) => {
    const jws = packet.properties?.userProperties?.jws; // an array when it comes more than once
    const outcome = follower.take(topic, payload, typeof jws === "string" ? jws : undefined);
    if (outcome === "taken" || outcome === "pinned") save(path, follower); // before anybody acts on it
    if (outcome === "pinned") client.subscribe(`${follower.updated}+`, { qos: 1 });
    print({ topic, outcome, holds: Object.fromEntries(follower.holds) });
  });
  client.subscribe(follower.keys, { qos: 1 });
  // Documents are asked for when there is a key to check them with: they are retained, and come then.
  if (follower.pinned.length > 0) client.subscribe(`${follower.updated}+`, { qos: 1 });
}

function save(path, { pinned, holds }) {
  const file = openSync(`${path}.new`, "w");
  writeSync(file, JSON.stringify({ pinned, holds: Object.fromEntries(holds) }));
  fsyncSync(file);
  closeSync(file);
  renameSync(`${path}.new`, path); // at once: a power cut leaves the old one or the new one
}

const print = (line) => console.log(JSON.stringify(line));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [first, ...rest] = process.argv.slice(2);
  if (rest.length > 0) await follow(first, ...rest);
  else goThrough(first);
}
