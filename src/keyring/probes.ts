/**
 * Ciphertexts of old that a backup carries, and the proof after a restore that they open: so that a backup
 * is not believed because it was written, but because what it is for works.
 *
 * A probe is JSON: {namespace, key, version, kind, text…} in base64. `kem`: an encapsulation to the public
 * key and SHA-256 of its secret; `aead`: an AES-GCM ciphertext of a known text; `mac`: an HMAC of one.
 */
import { createHash, randomUUID } from 'node:crypto';

import { equalBytes, utf8 } from '../crypto/bytes.ts';
import type { DecapsulationKey, Engine } from '../crypto/engine.ts';
import { wipe } from '../crypto/secret.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { KemSuite, Suite } from '../crypto/suite.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey } from '../hsm/port.ts';
import { classicalKey, handleId } from './material.ts';
import type { KeyVersion, Material } from './model.ts';
import type { KeyPlace, KeyStore } from './ports.ts';
import { publicHalvesOf } from './public-halves.ts';
import type { Root } from './root.ts';
import { verifyStored } from './row-mac.ts';
import type { UsageCounters } from './usage.ts';

export interface ProbeParts {
  readonly store: Pick<KeyStore, 'places' | 'find'>;
  readonly hsm: Pick<
    Hsm,
    'ecdh' | 'decryptOaep' | 'encrypt' | 'decrypt' | 'mac' | 'sign' | 'forget'
  >;
  readonly engine: Engine;
  readonly root: Pick<Root, 'mac' | 'unseal'>;
  readonly uses: Pick<UsageCounters, 'countGcm'>;
}

type Probed = KeyVersion & { readonly material: Material };

interface Probe {
  readonly namespace: string;
  readonly key: string;
  readonly version: number;
  readonly kind: 'kem' | 'aead' | 'mac';
  readonly ciphertext: string;
  readonly iv?: string;
  readonly hash?: string;
}

const TEXT = utf8('twofold backup probe');
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const bytesOf = (text = ''): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));
const hashOf = (bytes: Uint8Array): Uint8Array =>
  Uint8Array.from(createHash('sha256').update(bytes).digest());

/** Those whose classical half is no object of the token that is left behind. */
const travels = ({ material }: Probed): boolean => material.classical?.hsm.custody !== 'hsm-token';

const hasMaterial = (version: KeyVersion): version is Probed => 'material' in version;

/** Places of `most` keys at random, fewer where there are fewer. */
async function sample(store: ProbeParts['store'], most: number): Promise<readonly KeyPlace[]> {
  const first = await store.places(null, most);
  if (first.length < most) return first;
  const found = new Map<string, KeyPlace>();
  for (let at = 0; at < most; at += 1) {
    // Ids are random, so that the next after a random one is a random key.
    const [place = first[at]] = await store.places(randomUUID(), 1);
    if (place !== undefined) found.set(place.id, place);
  }
  return [...found.values()];
}

async function versionsOf(
  { store, root }: ProbeParts,
  { namespace, id }: KeyPlace,
): Promise<readonly Probed[]> {
  const stored = await store.find(namespace, { id }, 0);
  if (stored === null) return [];
  await verifyStored(root.mac, stored);
  return stored.versions.map(({ value }) => value).filter(hasMaterial);
}

const hsmKeyOf = (suite: Suite, { keyId, version, material }: Probed): HsmKey | null =>
  suite.hsm === null || material.classical === null
    ? null
    : classicalKey(suite.hsm, keyId, version, material.classical.hsm);

/** One probe of each of at most `most` keys. */
export async function* makeProbes(parts: ProbeParts, most: number): AsyncGenerator<string> {
  for (const place of await sample(parts.store, most)) {
    const version = (await versionsOf(parts, place)).filter(travels).at(-1);
    const probe = version === undefined ? null : await probeOf(parts, version);
    if (version === undefined || probe === null) continue;
    const of = { namespace: place.namespace, key: place.id, version: version.version };
    yield JSON.stringify({ ...of, ...probe } satisfies Probe);
  }
}

async function probeOf(
  { engine, hsm, uses }: ProbeParts,
  version: Probed,
): Promise<Pick<Probe, 'kind' | 'ciphertext' | 'iv' | 'hash'> | null> {
  const suite = findSuiteByNumber(version.suite);
  if (suite.kind === 'kem') {
    const publicKey = suite.kem.joinPublicKey(engine, publicHalvesOf(suite, version.material));
    const { sharedSecret, encapsulation } = await suite.kem.encapsulate(engine, publicKey);
    const hash = hashOf(sharedSecret.reveal());
    wipe(sharedSecret);
    return { kind: 'kem', ciphertext: base64(encapsulation), hash: base64(hash) };
  }
  const key = hsmKeyOf(suite, version);
  if (key === null) return null;
  if (suite.kind === 'aead') {
    await uses.countGcm(handleId(version.keyId, version.version));
    const { iv, ciphertext } = await hsm.encrypt(key, TEXT, TEXT);
    return { kind: 'aead', ciphertext: base64(ciphertext), iv: base64(iv) };
  }
  if (suite.kind !== 'mac') return null;
  return { kind: 'mac', ciphertext: base64(await hsm.mac(key, TEXT)) };
}

export interface RestoredFacts {
  readonly keys: number;
  readonly versions: number;
  /** Versions whose halves were unwrapped and unsealed. */
  readonly opened: number;
  /** Probes that opened. */
  readonly probes: number;
  /** Versions whose classical half was an object of the token left behind: `namespace/name version n`. */
  readonly left: readonly string[];
}

const PAGE = 500;
const AT_ONCE = 16;
/** More are counted and not named. */
const MAX_NAMED = 1_000;

/**
 * Every row's MAC, the halves of `most` keys, and every probe.
 * @throws TwofoldError integrity_failed for the first that is not whole
 */
export async function checkRestored(
  parts: ProbeParts,
  probes: readonly string[],
  most: number,
): Promise<RestoredFacts> {
  const rows = await checkRows(parts);
  let opened = 0;
  for (const place of await sample(parts.store, most)) {
    for (const version of (await versionsOf(parts, place)).filter(travels)) {
      await openHalves(parts, version);
      opened += 1;
    }
  }
  for (const text of probes) await openProbe(parts, JSON.parse(text) as Probe);
  return { ...rows, opened, probes: probes.length };
}

async function checkRows({ store, root }: ProbeParts) {
  const left: string[] = [];
  let [keys, versions] = [0, 0];
  const check = async ({ namespace, id }: KeyPlace): Promise<void> => {
    const stored = await store.find(namespace, { id }, 0);
    if (stored === null) throw lost(id);
    await verifyStored(root.mac, stored);
    keys += 1;
    versions += stored.versions.length;
    for (const { value } of stored.versions) {
      if (!hasMaterial(value) || travels(value) || left.length >= MAX_NAMED) continue;
      left.push(`${namespace}/${stored.key.value.name} version ${String(value.version)}`);
    }
  };
  for (let after: string | null = null; ;) {
    const page: readonly KeyPlace[] = await store.places(after, PAGE);
    for (let at = 0; at < page.length; at += AT_ONCE) {
      await Promise.all(page.slice(at, at + AT_ONCE).map(check));
    }
    if (page.length < PAGE) return { keys, versions, left };
    after = page.at(-1)?.id ?? null;
  }
}

const lost = (id: string) => new TwofoldError('integrity_failed', `The key ${id} is not there.`);
const wrong = ({ keyId, version }: Pick<KeyVersion, 'keyId' | 'version'>) =>
  new TwofoldError('integrity_failed', `Version ${String(version)} of ${keyId} does not open.`);

/** The HSM compares an unwrapped key with its public key or check value. */
async function openHalves(parts: ProbeParts, version: Probed): Promise<void> {
  const suite = findSuiteByNumber(version.suite);
  const { pq } = version.material;
  if (pq !== null) {
    const seed = await unsealed(parts, version);
    try {
      const publicKey = await publicKeyOf(parts.engine, suite, seed);
      if (!equalBytes(publicKey, pq.public)) throw wrong(version);
    } finally {
      wipe(seed);
    }
  }
  if (suite.kind === 'kem') {
    const probe = await probeOf(parts, version);
    if (probe !== null) await openKem(parts, suite, version, probe);
    return;
  }
  const key = hsmKeyOf(suite, version);
  if (key === null) return;
  if (suite.kind === 'aead') await openAead(parts, key, version);
  else if (suite.kind === 'mac') await parts.hsm.mac(key, TEXT);
  else await parts.hsm.sign(key, toSign(key));
}

/** What the port signs: a digest of the curve's or the hash's length, of which nothing is kept. */
function toSign({ spec }: HsmKey): Uint8Array {
  const lengths = { 'P-256': 32, 'P-384': 48, 'P-521': 64 } as const;
  if (spec.kind === 'ec') return hashTo(lengths[spec.curve]);
  return hashTo(spec.kind === 'rsa' ? HASH_LENGTHS[spec.hash] : HASH_LENGTHS['SHA-256']);
}

const HASH_LENGTHS = { 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 } as const;
const hashTo = (length: number): Uint8Array =>
  Uint8Array.from(createHash('sha512').update(TEXT).digest().subarray(0, length));

async function openAead({ hsm, uses }: ProbeParts, key: HsmKey, { keyId, version }: Probed) {
  await uses.countGcm(handleId(keyId, version));
  const opened = await hsm.decrypt(key, await hsm.encrypt(key, TEXT, TEXT), TEXT);
  wipe(opened);
}

function unsealed({ root }: ProbeParts, { keyId, version, suite, material }: Probed) {
  if (material.pq === null) throw wrong({ keyId, version });
  return root.unseal(material.pq.half, { keyId, version, suite, part: 'pq' });
}

async function publicKeyOf(
  { mlKem, signatures }: Engine,
  suite: Suite,
  seed: SecretBytes,
): Promise<Uint8Array> {
  if (suite.kind === 'kem' && suite.pq !== null) return mlKem.publicKey(suite.pq, seed);
  if (suite.kind === 'signature' && suite.pq !== null) return signatures.publicKey(suite.pq, seed);
  throw new TwofoldError('integrity_failed', 'The version has not the halves of its suite.');
}

async function openKem(
  parts: ProbeParts,
  suite: KemSuite,
  version: Probed,
  { ciphertext, hash }: Pick<Probe, 'ciphertext' | 'hash'>,
): Promise<void> {
  const { engine, hsm } = parts;
  const publicKey = suite.kem.joinPublicKey(engine, publicHalvesOf(suite, version.material));
  let imported: DecapsulationKey | undefined;
  if (suite.pq !== null) {
    const seed = await unsealed(parts, version);
    imported = engine.mlKem.importSeed(suite.pq, seed);
    wipe(seed);
  }
  const decapsulation = imported;
  try {
    const secret = await suite.kem.decapsulate(bytesOf(ciphertext), publicKey, {
      pq: (ct) => {
        if (decapsulation === undefined) throw wrong(version);
        return decapsulation.decapsulate(ct);
      },
      classical: (ct) => {
        const key = hsmKeyOf(suite, version);
        if (key === null) throw wrong(version);
        return key.spec.kind === 'rsa' ? hsm.decryptOaep(key, ct) : hsm.ecdh(key, ct);
      },
    });
    const same = equalBytes(hashOf(secret.reveal()), bytesOf(hash));
    wipe(secret);
    if (!same) throw wrong(version);
  } finally {
    decapsulation?.release();
  }
}

async function openProbe(parts: ProbeParts, probe: Probe): Promise<void> {
  const place = { namespace: probe.namespace, id: probe.key };
  const version = (await versionsOf(parts, place)).find((each) => each.version === probe.version);
  if (version === undefined) throw lost(probe.key);
  const suite = findSuiteByNumber(version.suite);
  if (suite.kind === 'kem') return openKem(parts, suite, version, probe);
  const key = hsmKeyOf(suite, version);
  if (key === null) throw wrong(version);
  const ciphertext = bytesOf(probe.ciphertext);
  if (suite.kind === 'mac') {
    if (!equalBytes(await parts.hsm.mac(key, TEXT), ciphertext)) throw wrong(version);
    return;
  }
  const opened = await parts.hsm.decrypt(key, { iv: bytesOf(probe.iv), ciphertext }, TEXT);
  const same = equalBytes(opened.reveal(), TEXT);
  wipe(opened);
  if (!same) throw wrong(version);
}
