/** One text for one request content, so that a repeated request can be recognised. */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** @throws TypeError for an object whose members are not all that it says */
export function canonicalJson(value: unknown): string {
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString('base64'));
  if (value instanceof Date) return JSON.stringify(value.toISOString());
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (!isPlain(value)) throw new TypeError('a body has an object that has no canonical text');
  const members = Object.entries(value as Record<string, unknown>)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

/** Others keep what they say out of their members: two of them would look alike. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** SHA-256 of the body with its members sorted. */
export const bodyHash = (body: unknown): Uint8Array =>
  createHash('sha256')
    .update(canonicalJson(body ?? null))
    .digest();

/**
 * SHA-256 over all that a request says, also its namespace, query and revision, and over the id of the
 * key that its path means: a name that means another key later makes another request.
 */
export function wholeRequestHash(
  { method, url, headers }: IncomingMessage,
  about: { readonly namespace: string; readonly keyId: string | null },
  body: unknown,
): Uint8Array {
  const { namespace, keyId } = about;
  const target = JSON.stringify([namespace, method, url, headers['if-match'] ?? null, keyId]);
  return createHash('sha256')
    .update(target)
    .update('\0')
    .update(canonicalJson(body ?? null))
    .digest();
}

/** SHA-256 over method, path and the body with its members sorted. */
export function requestHash(request: IncomingMessage, body: unknown): Uint8Array {
  const target = JSON.stringify([request.method, request.url?.split('?', 1)[0]]);
  return createHash('sha256')
    .update(target)
    .update('\0')
    .update(canonicalJson(body ?? null))
    .digest();
}
