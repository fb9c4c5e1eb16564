/** The configuration in force, as one hash: for the audit log, which says under what the service ran. */
import { createHash } from 'node:crypto';

import type { Config } from './schema.ts';

/**
 * SHA-256, hex, of the settings as JSON with sorted names, defaults among them. Settings name the files of
 * secrets and not what is in them; the password of a database's URL, which may have one, is left out.
 */
export function configurationHash(config: Config): string {
  const plain = JSON.parse(JSON.stringify(config)) as unknown;
  return createHash('sha256')
    .update(JSON.stringify(canonical(plain)))
    .digest('hex');
}

function canonical(value: unknown): unknown {
  if (typeof value === 'string') return withoutPassword(value);
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  const pairs = Object.entries(value).map(([name, each]) => [name, canonical(each)] as const);
  return pairs.sort(([a], [b]) => (a < b ? -1 : 1));
}

function withoutPassword(text: string): string {
  if (!/^[a-z]+:\/\//u.test(text) || !URL.canParse(text)) return text;
  const url = new URL(text);
  url.password = '';
  return url.toString();
}
