/** Keys that we write, read by implementations that are not node's OpenSSL. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from '@jest/globals';

import { encodePem } from '../../src/crypto/pem.ts';
import { parsePrivateKey, writePrivateKey } from '../../src/crypto/private-key.ts';
import { writePublicKeyPem } from '../../src/crypto/spki.ts';
import { report } from '../vectors/published.ts';
import { EXPANDED_KEYS } from './expanded-keys.ts';
import { GENERATED } from './key-encodings.ts';
import type { GeneratedRow } from './key-encodings.ts';

const folder = mkdtempSync(join(tmpdir(), 'twofold-keys-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Our private key (of ML-DSA and ML-KEM the seed alone) and public key of a new pair, as files. */
async function writeKeys({ encoding, generate, raw }: GeneratedRow) {
  const { algorithm } = encoding;
  const { privateKey, publicKey } = generate();
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' });
  const { material } = await parsePrivateKey(encoding, pkcs8, EXPANDED_KEYS[algorithm] ?? null);
  const own = writePrivateKey(
    encoding,
    material.kind === 'both' ? { kind: 'seed', seed: material.seed } : material,
  );
  const publicPem = writePublicKeyPem(encoding, raw(publicKey));
  if (own === null || publicPem === null) throw new Error('no form');
  const path = join(folder, `${algorithm}.pem`);
  writeFileSync(path, encodePem('PRIVATE KEY', own.reveal()));
  writeFileSync(`${path}.pub`, publicPem);
  return { algorithm, path, publicPem };
}

const keys = await Promise.all(GENERATED.map(writeKeys));

describe('the openssl at hand', () => {
  it('derives the public key that we wrote from the private key that we wrote', () => {
    const unknown: string[] = [];
    for (const { algorithm, path, publicPem } of keys) {
      const { status, stdout } = spawnSync('openssl', ['pkey', '-in', path, '-pubout'], {
        encoding: 'utf8',
      });
      if (status !== 0 && /^(?:ML-|SLH-)/.test(algorithm)) {
        unknown.push(algorithm);
        continue;
      }
      expect([algorithm, stdout]).toEqual([algorithm, publicPem]);
    }
    if (unknown.length > 0)
      report(`openssl at hand: NOT read, unknown to it: ${unknown.join(', ')}`);
  });
});

const SCRIPT = `
import sys
from cryptography.hazmat.primitives.serialization import (
    Encoding, PublicFormat, load_pem_private_key, load_pem_public_key)
from cryptography.exceptions import UnsupportedAlgorithm
for path in sys.argv[1:]:
    try:
        spki = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        private = load_pem_private_key(open(path, 'rb').read(), None)
        public = load_pem_public_key(open(path + '.pub', 'rb').read())
        same = private.public_key().public_bytes(*spki) == public.public_bytes(*spki)
        print('same' if same else 'other')
    except UnsupportedAlgorithm:
        print('unknown')
`;

const named = process.env['CRYPTOGRAPHY_PYTHON'];
/** Debian's `python3-cryptography` is for the second, whatever else comes first in PATH. */
const PYTHONS = named === undefined ? ['python3', '/usr/bin/python3'] : [named];

/** The first Python that has the package. */
function findPython(): string | undefined {
  const imports = (python: string) =>
    spawnSync(python, ['-c', 'import cryptography'], { encoding: 'utf8' }).status === 0;
  return PYTHONS.find(imports);
}

describe('pyca/cryptography', () => {
  const python = findPython();

  it('reads both keys of a pair as a pair', () => {
    if (python === undefined) {
      report(`cryptography: NOT run, no Python has it: ${PYTHONS.join(', ')}`);
      return;
    }
    const paths = keys.map(({ path }) => path);
    const { stdout, stderr } = spawnSync(python, ['-c', SCRIPT, ...paths], { encoding: 'utf8' });
    expect(stderr).toBe('');
    const answers = stdout.trim().split('\n');
    expect(answers.length).toBe(keys.length);
    const unknown = keys.filter((_, index) => answers[index] === 'unknown');
    const names = unknown.map(({ algorithm }) => algorithm);
    expect(answers.filter((answer) => answer === 'same').length).toBe(keys.length - names.length);
    expect(names.filter((name) => !/^(?:ML-KEM-512|SLH-)/.test(name))).toEqual([]);
    report(`cryptography: ${keys.length - names.length} read, unknown to it: ${names.join(', ')}`);
  });
});
