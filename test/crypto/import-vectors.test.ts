/** The construction of docs/import.md against vectors of an independent recipe. */
import { readFileSync } from 'node:fs';

import { describe, expect, it } from '@jest/globals';

import { openImport, wrapForHsm } from '../../src/crypto/import-envelope.ts';
import { IMPORT_ENVELOPE } from '../../src/crypto/import-envelope.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { findSuite } from '../../src/crypto/suites.ts';
import { contentOf, envelopeOf, IMPORT_VECTORS } from './import-recipe.ts';
import type { ImportVector } from './import-recipe.ts';
import { classicalPublicKey, hex, kemKey, toHex } from './software-halves.ts';

const file = JSON.parse(readFileSync(IMPORT_VECTORS, 'utf8')) as {
  readonly vectors: readonly ImportVector[];
};

function bindingOf({ id, namespace, suite, publicKey }: ImportVector) {
  const row = findSuite(suite.id);
  expect(row.number).toBe(suite.number);
  return { id, namespace, suite: row, publicKey: publicKey === '' ? null : hex(publicKey) };
}

describe.each(file.vectors)('an import of $what', (vector) => {
  const { envelopeKey, wrapping } = vector;
  const open = (envelope: Uint8Array, binding = bindingOf(vector)) => {
    const [seed, scalar] = [hex(envelopeKey.seed), hex(envelopeKey.scalar)];
    const key = kemKey(nativeEngine, IMPORT_ENVELOPE, seed, scalar);
    return openImport(key.publicKey, key.halves, binding, envelope);
  };

  it('is what the independent recipe makes', () => {
    expect(toHex(contentOf(vector))).toBe(vector.content);
    expect(toHex(envelopeOf(vector))).toBe(vector.envelope);
  });

  it('opens, in its namespace and with its public key alone', async () => {
    const envelope = hex(vector.envelope);
    expect(toHex((await open(envelope)).reveal())).toBe(vector.content);
    const binding = bindingOf(vector);
    for (const other of [
      { ...binding, namespace: 'team-b' },
      { ...binding, publicKey: Uint8Array.of(4) },
      { ...binding, id: '00000000-0000-4000-8000-000000000000' },
      { ...binding, suite: findSuite('HS256') },
    ]) {
      await expect(open(envelope, other)).rejects.toMatchObject({ code: 'import_invalid' });
    }
  });

  it('has its key wrapped for the HSM as the importer wraps it', () => {
    if (wrapping === null) {
      expect(vector.content).toBe(vector.key);
      return;
    }
    const importing = classicalPublicKey('P-256', hex(wrapping.importing));
    const key = SecretBytes.own(hex(vector.key));
    const made = wrapForHsm(bindingOf(vector), importing, key, hex(wrapping.ephemeral));
    expect(toHex(made)).toBe(vector.content);
  });
});
