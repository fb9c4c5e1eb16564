/**
 * Where the version of each lasting format stands: ARCHITECTURE.md's table, held to the sources, and what
 * reads the two that travel between versions most meets one of the next version.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from '@jest/globals';

import { decodeEntry } from '../../src/audit/entry-decoder.ts';
import { decodeEnvelopeText, parseEnvelope } from '../../src/crypto/envelope.ts';
import { TREE } from './release.ts';

const SRC = join(TREE, 'src');
const PAGE = readFileSync(join(TREE, 'ARCHITECTURE.md'), 'utf8');

const section = /^### Versions side by side$([\s\S]*?)^### /mu.exec(PAGE)?.[1] ?? '';
/** `file` constant value, as the table's second and third columns say them. */
const stated = new Map(
  [...section.matchAll(/^\|[^|]+\| `([\w/.-]+)`,? `(\w+)` +\| `([^`]+)` +\|/gmu)].map(
    ([, file, name, value]) => [`${file} ${name}`, value] as const,
  ),
);

/** Constants that say which version of a format is written. */
const CONSTANT =
  /^(?:export )?const ([A-Z_]*(?:VERSION|FORMAT|MAGIC|SCHEMA)) = (?:utf8\()?'?([\w/.-]+)'?\)?;$/gmu;
/** Labels that a version ends. */
const LABEL = /^ {2}(\w+): '((?:twofold\/[a-z-]+\/|tfk?)\d+\.?)',$/gmu;
/** Not of a format of ours. */
const OTHERS = new Set([
  'main/version.ts VERSION',
  'keyring/log-keys.ts VERSION',
  'kubernetes/etcd-snapshot.ts VERSION',
  'kubernetes/etcd-snapshot.ts MAGIC',
  'crypto/certificate-chain.ts VERSION',
  'main/kms-plugin/unregister.ts LAST_VERSION',
  'kubernetes/encryption-configuration.ts API_VERSION',
  'client/fixed-header.ts MAGIC',
  'backup/content.ts MAGIC',
]);

const written = (): Map<string, string> => {
  const found = new Map<string, string>();
  for (const file of readdirSync(SRC, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts') || file.startsWith('store/generated')) continue;
    const text = readFileSync(join(SRC, file), 'utf8');
    const matches = [
      ...text.matchAll(CONSTANT),
      ...(file === 'name.ts' ? text.matchAll(LABEL) : []),
    ];
    for (const [, name = '', value = ''] of matches) {
      if (!OTHERS.has(`${file} ${name}`)) found.set(`${file} ${name}`, value);
    }
  }
  return found;
};

describe('the table of versions', () => {
  it('has every version that the sources write, and no other', () => {
    expect(Object.fromEntries(stated)).toEqual(Object.fromEntries(written()));
    expect(stated.size).toBeGreaterThan(20);
  });

  it('of envelopes: one of the next version is refused by its number, in bytes and as text', () => {
    const codeOf = (read: () => unknown): unknown => {
      try {
        return read();
      } catch (error) {
        return Reflect.get(Object(error), 'code');
      }
    };
    const bytes = new Uint8Array(100).fill(2, 0, 1);
    expect(codeOf(() => parseEnvelope(bytes))).toBe('unsupported_envelope_version');
    expect(codeOf(() => decodeEnvelopeText('tf2.AAAA'))).toBe('invalid_envelope');
  });

  it('of entries: one of the next version is not read as one of these', () => {
    const text = readFileSync(join(TREE, 'test/vectors/audit-entries.json'), 'utf8');
    const { entries } = JSON.parse(text) as { entries: { hex: string }[] };
    const entry = Uint8Array.from(Buffer.from(entries[0]?.hex ?? '', 'hex'));
    expect(() => decodeEntry(entry)).not.toThrow();
    // After the head of the array (0x98, its length), or 0x97 alone: the version.
    entry[entry[0] === 0x98 ? 2 : 1] = 3;
    expect(() => decodeEntry(entry)).toThrow();
  });
});
