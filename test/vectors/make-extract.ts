/**
 * Writes the extract of the published vectors: `node test/vectors/make-extract.ts`. Of each kind of
 * case it keeps the shortest, so that the whole stays under 2 MB.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { EXTRACT, readPublished, TOTALS } from './published.ts';
import { groupsOf, WYCHEPROOF } from './wycheproof.ts';
import type { VectorSet } from './published.ts';
import type { Group } from './wycheproof.ts';

interface Choice {
  readonly source: string;
  readonly licence: string;
  /** Vectors with the same kind are alternatives. */
  readonly kind: (vector: Readonly<Record<string, unknown>>) => string;
  /** How many of each kind are kept. */
  readonly keep: number;
}

const ACVP = {
  source: 'usnistgov/ACVP-Server v1.1.0.43 gen-val/json-files',
  licence: 'NIST, public domain in the United States, with the notice of its LICENSE file',
};
const CCTV = {
  source: 'C2SP/CCTV 1e3d2860d46e94e777e1b17c7a6f2436387e3ecc',
  licence: 'BSD-3-Clause',
};
const IETF = 'IETF Trust Legal Provisions (BCP 78)';
const LAMPS = {
  source:
    'lamps-wg/dilithium-certificates 785a549e69eb7abdd1aa47e8404897a5de699455, ' +
    'lamps-wg/kyber-certificates b013568cc0bc9ab3f7b7146d56168986f2e89cd9, ' +
    'lamps-wg/x509-slhdsa b3b216f32b041626abfb9725d0f75000bbee1ff6',
  licence: IETF,
};
const by =
  (...fields: readonly string[]) =>
  (vector: Readonly<Record<string, unknown>>) =>
    fields.map((field) => String(vector[field])).join(' ');

const CHOICES: Readonly<Record<VectorSet, Choice>> = {
  'hpke-pq': {
    source: 'hpkewg/hpke-pq 74dafaa65f79a5eaa210af7ba967e5425a21d05b',
    licence: IETF,
    kind: by('kem_id', 'kdf_id', 'aead_id'),
    keep: 1,
  },
  'hpke-rfc9180': {
    source: 'cfrg/draft-irtf-cfrg-hpke 5f503c5, as in cloudflare/circl',
    licence: IETF,
    kind: by('kem_id'),
    keep: 1,
  },
  xwing: {
    source: 'dconnolly/draft-connolly-cfrg-xwing-kem 9b6ce9e614811dba8d46841052f3883cbc4c1a65',
    licence: IETF,
    kind: by(),
    keep: 3,
  },
  'cfrg-hybrids': {
    source: 'cfrg/draft-irtf-cfrg-concrete-hybrid-kems, as in paulmillr/noble-post-quantum abd4ece',
    licence: IETF,
    kind: by('suite'),
    keep: 2,
  },
  'composite-sigs': {
    source: 'lamps-wg/draft-composite-sigs 60fcb1e82b90b8cc331166eb783af2925f8ef809',
    licence: IETF,
    // A vector has up to 25 kB: one of each suite, and those that are known answers of the start.
    kind: ({ suite, context }) =>
      ['MLDSA65-ECDSA-P256-SHA512', 'MLDSA87-ECDSA-P384-SHA512'].includes(String(suite))
        ? `${String(suite)} ${String(context)}`
        : String(suite),
    keep: 1,
  },
  'composite-sigs-certificates': {
    source: 'lamps-wg/draft-composite-sigs 60fcb1e82b90b8cc331166eb783af2925f8ef809',
    licence: IETF,
    kind: by(),
    keep: 1,
  },
  'composite-sigs-not-offered': {
    source: 'lamps-wg/draft-composite-sigs 60fcb1e82b90b8cc331166eb783af2925f8ef809',
    licence: IETF,
    kind: by('suite'),
    keep: 1,
  },
  'composite-kem': {
    source: 'lamps-wg/draft-composite-kem 8cf7d5d3b2b758bbf9cdcc8d31167c09a8af22b0',
    licence: IETF,
    kind: by('arc'),
    keep: 1,
  },
  'jose-hpke': {
    source: 'panva/draft-jose-hpke-pq-pqt 9a69cb2f9218160f8e1a4de53edc73162b257802',
    licence: IETF,
    kind: by('alg'),
    keep: 1,
  },
  'jose-hpke-keys': {
    source: 'panva/draft-jose-hpke-pq-pqt 9a69cb2f9218160f8e1a4de53edc73162b257802',
    licence: IETF,
    kind: by('alg'),
    keep: 1,
  },
  'jose-signatures': {
    source:
      'cose-wg/draft-ietf-cose-dilithium 7f2084bec51d2ddeb40f4b6918257bf278dcd268, ' +
      'ietf-wg-jose/draft-ietf-jose-pq-composite-sigs 9bb2ae7d54ab11e93cd2f4c4f02247ced72e297e',
    licence: IETF,
    kind: (vector) => String(/-E[a-z]+/i.exec(String(vector['name']))),
    keep: 1,
  },
  'cose-signatures': {
    source:
      'cose-wg/draft-ietf-cose-dilithium 7f2084bec51d2ddeb40f4b6918257bf278dcd268, ' +
      'ietf-wg-jose/draft-ietf-jose-pq-composite-sigs 9bb2ae7d54ab11e93cd2f4c4f02247ced72e297e',
    licence: IETF,
    kind: by(),
    keep: 1,
  },
  'x509-keys': {
    ...LAMPS,
    // Of each form the smallest parameter set, and whatever must be refused.
    kind: ({ name, publicKey }) =>
      publicKey === null ? String(name) : String(name).replace(/\d+/, ''),
    keep: 1,
  },
  'x509-certificates': {
    ...LAMPS,
    kind: (vector) => String(vector['algorithm']).slice(0, 6),
    keep: 1,
  },
  'ml-kem-keygen': { ...ACVP, kind: by('set'), keep: 2 },
  'ml-kem-encapdecap': { ...ACVP, kind: by('set', 'function', 'testPassed'), keep: 1 },
  'ml-dsa-keygen': { ...ACVP, kind: by('set'), keep: 2 },
  'ml-dsa-siggen': {
    ...ACVP,
    // A vector has up to 30 kB: hedged ones of the smallest set alone.
    kind: (vector) => {
      const isHedged = 'rnd' in vector && vector['set'] === 'ML-DSA-44';
      return `${by('set', 'interface')(vector)} ${isHedged ? 'hedged' : ''}`;
    },
    keep: 1,
  },
  'ml-dsa-sigver': { ...ACVP, kind: by('set', 'interface', 'testPassed'), keep: 1 },
  'slh-dsa-keygen': { ...ACVP, kind: by('set'), keep: 2 },
  'slh-dsa-sigver': {
    ...ACVP,
    // Signatures have up to 50 kB: the shortest of each family of hashes.
    kind: (vector) => `${String(vector['set']).slice(8, 12)} ${String(vector['testPassed'])}`,
    keep: 1,
  },
  falcon: {
    source: 'Falcon round-3 submission, as in paulmillr/noble-post-quantum abd4ece',
    licence: 'MIT',
    kind: by('set'),
    keep: 3,
  },
  'ed25519-points': { ...CCTV, kind: by('flags'), keep: 1 },
  'falcon-pqclean': {
    source: 'PQClean, as in paulmillr/noble-post-quantum abd4ece',
    licence: 'MIT',
    kind: by('set', 'padded'),
    keep: 1,
  },
  // These two folders state no licence, so nothing of them is kept here.
  'ml-kem-intermediate': { ...CCTV, licence: 'not stated', kind: by('set'), keep: 0 },
  'ml-dsa-messages': { ...CCTV, licence: 'not stated', kind: by('set'), keep: 0 },
  'rsa-oaep': {
    source: 'C2SP/wycheproof dac1dd4, testvectors_v1/rsa_oaep_3072_sha256_mgf1sha256_test.json',
    licence: 'Apache-2.0',
    kind: by('result', 'label'),
    keep: 4,
  },
};

function choose(name: VectorSet): readonly unknown[] {
  const { kind, keep } = CHOICES[name];
  const vectors = readPublished(name) as unknown as readonly Readonly<Record<string, unknown>>[];
  const groups = Map.groupBy(vectors, kind);
  return [...groups.values()].flatMap((group) =>
    group.sort((a, b) => JSON.stringify(a).length - JSON.stringify(b).length).slice(0, keep),
  );
}

mkdirSync(EXTRACT, { recursive: true });
for (const name of Object.keys(CHOICES) as VectorSet[]) {
  const { source, licence } = CHOICES[name];
  const extract = { source, licence, total: TOTALS[name], vectors: choose(name) };
  writeFileSync(join(EXTRACT, `${name}.json`), `${JSON.stringify(extract, null, 2)}\n`);
}

/** Groups whose cases this service has the form of; of the others a clone proves nothing. */
const OURS: Readonly<Record<string, (group: Group) => boolean>> = {
  aes_gcm: ({ keySize, ivSize }) => keySize === 256 && ivSize === 96,
  aes_kwp: ({ keySize }) => keySize === 256,
  hmac_sha256: ({ tagSize }) => tagSize === 256,
  hmac_sha512: ({ tagSize }) => tagSize === 512,
  // Not HMAC, which JWS and JWK are not offered with.
  json_web_key: ({ public: key }) => key !== undefined,
  json_web_signature: ({ public: key }) => key !== undefined,
};

/** Of each file and result the shortest two, the shortest one where cases are long. */
function chooseWycheproof(name: string) {
  const groups = groupsOf(name).filter(OURS[name] ?? (() => true));
  const cases = groups.flatMap((group) => group.tests.map((test) => ({ group, test })));
  const size = (row: (typeof cases)[number]) => JSON.stringify(row.test).length;
  const chosen = [...Map.groupBy(cases, ({ test }) => test.result).values()].flatMap((rows) => {
    const sorted = rows.toSorted((a, b) => size(a) - size(b));
    return sorted.filter((row, index) => index === 0 || (index < 4 && size(row) < 2_000));
  });
  const byGroup = Map.groupBy(chosen, ({ group }) => group);
  return [...byGroup].map(([group, rows]) => ({ ...group, tests: rows.map(({ test }) => test) }));
}

const files = Object.keys(WYCHEPROOF).filter((name) => !name.startsWith('rsa_oaep'));
const wycheproof = {
  source: 'C2SP/wycheproof dac1dd4, testvectors_v1',
  licence: 'Apache-2.0',
  ...Object.fromEntries(files.map((name) => [name, chooseWycheproof(name)])),
};
writeFileSync(join(EXTRACT, 'wycheproof.json'), `${JSON.stringify(wycheproof, null, 2)}\n`);
