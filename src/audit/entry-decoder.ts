/**
 * Reads entries back, strictly: exactly the bytes that `encodeEntry` writes, no unknown version, no
 * member more or less. The table of members stands in `entry.ts`.
 */
import { decodeCbor } from '../crypto/cbor.ts';
import type { CborDecoded } from '../crypto/cbor.ts';
import { uuidText } from '../crypto/uuid.ts';
import { TwofoldError } from '../errors.ts';
import { LEAF_BYTES, MAX_ENTRY_BYTES, MEMBERS_OF } from './entry.ts';
import type { Entry } from './entry.ts';
import { NO_CIRCUMSTANCES } from './ports.ts';
import type { Actor, AuditEngine, AuditItem } from './ports.ts';

/** An entry and the version of its bytes; of version 1, members that it has not are empty or null. */
export type DecodedEntry = Entry & { readonly version: number };

/** @throws TwofoldError `integrity_failed` for anything that is not an entry of a known version */
export function decodeEntry(body: Uint8Array): DecodedEntry {
  if (body.length > MAX_ENTRY_BYTES) throw broken('size');
  const members = list(decodeCbor(body));
  const [version] = members;
  if (version !== 1 && version !== 2) throw broken('version');
  if (members.length !== MEMBERS_OF[version]) throw broken('member count');
  const at = (position: number): CborDecoded => members[position] ?? null;
  const since2 = version === 1 ? OF_VERSION_1 : sinceVersion2(at);
  return {
    version,
    ...since2.facts,
    lane: unsigned(at(1)),
    n: unsigned(at(2)),
    previous: bytes(LEAF_BYTES)(at(3)),
    epoch: unsigned(at(4)),
    at: time(at(5)),
    zone: text(at(6)),
    instance: uuid(at(7)),
    requestId: text(at(8)),
    actor: { ...actor(at(9)), ...since2.actor },
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

type Since2 = 'acr' | 'amr' | 'roles';

const OF_VERSION_1 = {
  actor: { acr: null, amr: [], roles: null },
  facts: { ...NO_CIRCUMSTANCES, loggedContext: {}, aadHmac: null },
} as const;

/** Positions 23 to 32. */
function sinceVersion2(at: (position: number) => CborDecoded) {
  const [acr = null, amr = null] = exactList(at(23), 2);
  const of: Pick<Actor, Since2> = {
    acr: nullable(text)(acr),
    amr: list(amr).map(text),
    roles: nullable(texts)(at(24)),
  };
  return {
    actor: of,
    facts: {
      tlsGroup: nullable(text)(at(25)),
      grantId: nullable(uuid)(at(26)),
      approvalId: nullable(uuid)(at(27)),
      engine: nullable(oneOf<AuditEngine>('engine', ENGINES))(at(28)),
      origin: nullable(oneOf('origin', ORIGINS))(at(29)),
      durationUs: nullable(unsigned)(at(30)),
      loggedContext: textMap(at(31)),
      aadHmac: nullable(bytes(32))(at(32)),
    },
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

const texts: Read<readonly string[]> = (value) => list(value).map(text);

const ENGINES = ['native', 'portable', 'token'] as const;
const ORIGINS = ['anyone', 'service'] as const;

const oneOf =
  <T extends string>(what: string, known: readonly T[]): Read<T> =>
  (value) => {
    const found = known.find((each) => each === value);
    if (found === undefined) throw broken(what);
    return found;
  };

const METHODS: readonly Actor['method'][] = ['jwt', 'mtls', 'system', 'bootstrap', 'break-glass'];

const actor: Read<Omit<Actor, Since2>> = (value) => {
  const [issuer, subject, method, session] = exactList(value, 4);
  return {
    issuer: text(issuer ?? null),
    subject: text(subject ?? null),
    method: oneOf('method', METHODS)(method ?? null),
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

const textMap: Read<Entry['loggedContext']> = (value) => {
  if (!(value instanceof Map)) throw broken('map');
  return Object.fromEntries([...value].map(([name, fact]) => [asText(name), text(fact)]));
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
