/** The table of suites as ARCHITECTURE.md prints it: `node test/architecture/suite-table.ts`. */
import { SUITES } from '../../src/crypto/suites.ts';
import type { Suite } from '../../src/crypto/suite.ts';

const HEAD = ['number', 'id', 'document', 'HPKE KEM, KDF, AEAD', 'SPKI OID', 'JWK `alg`'];

function u16(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}

function cellsOf(suite: Suite): string[] {
  const { document, revision, status } = suite.standard;
  const hpke = suite.kind === 'kem' ? suite.hpke : null;
  const encoding = 'encoding' in suite ? suite.encoding : null;
  const alg = encoding?.jwk?.alg ?? null;
  return [
    u16(suite.number),
    `\`${suite.id}\``,
    `${document}; ${revision}; ${status}`,
    hpke === null ? '' : [hpke.kem, hpke.kdf, hpke.aead].map(u16).join(', '),
    encoding?.spki?.oid ?? '',
    alg === null ? '' : `\`${alg}\``,
  ];
}

export function suitesAsMarkdown(): string {
  const rows = [HEAD, HEAD.map(() => '---'), ...Object.values(SUITES).map(cellsOf)];
  return rows.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

if (import.meta.main) process.stdout.write(`${suitesAsMarkdown()}\n`);
