/**
 * Reads entries back, strictly: exactly the bytes that `encodeEntry` writes, no unknown version, no
 * member more or less. The table of members stands in `entry.ts`.
 */
import { decodeCbor } from '../crypto/cbor.ts';
import type { CborDecoded } from '../crypto/cbor.ts';
import { uuidText } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { ENTRY_VERSION, LEAF_BYTES, MAX_ENTRY_BYTES, MEMBERS } from './entry.ts';
import type { Entry } from './entry.ts';
import type { Actor, AuditItem } from './ports.ts';

/** @throws TwofoldError `integrity_failed` for anything that is not an entry of a known version */
export function decodeEntry(body: Uint8Array): Entry {
  if (body.length > MAX_ENTRY_BYTES) throw broken('size');
  const members = list(decodeCbor(body));
  if (members[0] !== ENTRY_VERSION) throw broken('version');
  if (members.length !== MEMBERS) throw broken('member count');
  const at = (position: number): CborDecoded => members[position] ?? null;
  return {
    lane: unsigned(at(1)),
    n: unsigned(at(2)),
    previous: bytes(LEAF_BYTES)(at(3)),
    epoch: unsigned(at(4)),
    at: time(at(5)),
    zone: text(at(6)),
    instance: uuid(at(7)),
    requestId: text(at(8)),
    actor: actor(at(9)),
    operation: text(at(10)),
    namespace: text(at(11)),
    keyRef: nullable(text)(at(12)),
    keyId: nullable(uuid)(at(13)),
    keyVersion: nullable(unsigned)(at(14)),
    suite: nullable(unsigned)(at(15)),
    outcome: text(at(16)),
    decision: nullable(decision)(at(17)),
    source: text(at(18)),
    contextKeys: list(at(19)).map(text),
    contextHmac: nullable(bytes(32))(at(20)),
    items: list(at(21)).map(item),
    detail: detail(at(22)),
  };
}

type Read<T> = (value: CborDecoded) => T;

const broken = (what: string): TwofoldError =>
  new TwofoldError('integrity_failed', undefined, { cause: new TypeError(`audit entry: ${what}`) });

const list: Read<readonly CborDecoded[]> = (value) => {
  if (!Array.isArray(value)) throw broken('array');
  return value;
};

const exactList = (value: CborDecoded, length: number): readonly CborDecoded[] => {
  const members = list(value);
  if (members.length !== length) throw broken('array length');
  return members;
};

const unsigned: Read<number> = (value) => {
  if (typeof value !== 'number' || value < 0) throw broken('unsigned');
  return value;
};

const time: Read<Date> = (value) => {
  const date = new Date(unsigned(value));
  if (Number.isNaN(date.getTime())) throw broken('time');
  return date;
};

const text: Read<string> = (value) => {
  if (typeof value !== 'string') throw broken('text');
  return value;
};

const bytes =
  (length: number): Read<Uint8Array> =>
  (value) => {
    if (!(value instanceof Uint8Array) || value.length !== length) throw broken('bytes');
    return value;
  };

const uuid: Read<string> = (value) => uuidText(bytes(16)(value));

const nullable =
  <T>(read: Read<T>): Read<T | null> =>
  (value) =>
    value === null ? null : read(value);

const METHODS: readonly Actor['method'][] = ['jwt', 'mtls', 'system', 'bootstrap', 'break-glass'];

const actor: Read<Actor> = (value) => {
  const [issuer, subject, method, session] = exactList(value, 4);
  const known = METHODS.find((candidate) => candidate === method);
  if (known === undefined) throw broken('method');
  return {
    issuer: text(issuer ?? null),
    subject: text(subject ?? null),
    method: known,
    session: nullable(bytes(16))(session ?? null),
  };
};

const decision: Read<{ revision: string; policies: readonly string[] }> = (value) => {
  const [revision, policies] = exactList(value, 2);
  return { revision: text(revision ?? null), policies: list(policies ?? null).map(text) };
};

const item: Read<AuditItem> = (value) => {
  const [keyVersion, outcome, hash] = exactList(value, 3);
  return {
    keyVersion: nullable(unsigned)(keyVersion ?? null),
    outcome: text(outcome ?? null),
    hash: bytes(16)(hash ?? null),
  };
};

const detail: Read<Entry['detail']> = (value) => {
  if (!(value instanceof Map)) throw broken('map');
  return Object.fromEntries([...value].map(([name, fact]) => [text(asText(name)), plain(fact)]));
};

const asText = (name: string | number | bigint): string => {
  if (typeof name !== 'string') throw broken('map key');
  return name;
};

const plain = (fact: CborDecoded): string | number | boolean | null => {
  if (fact === null || typeof fact === 'boolean' || typeof fact === 'string') return fact;
  if (typeof fact === 'number') return fact;
  throw broken('detail');
};
