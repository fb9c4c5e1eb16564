/** How a command reaches the service: address, token, certificates. Nothing secret is an argument. */
import { readFileSync } from 'node:fs';

import { ClientError } from '../client/client-error.ts';
import type { HttpConnectionOptions } from '../client/http-connection.ts';
import { isLoopback } from '../config/loopback.ts';
import { readSecretFile } from '../config/secret-file.ts';
import type { ParsedFlags } from './arguments.ts';

export const CONNECTION_FLAGS = { url: 'value', authorization: 'value', ca: 'value' } as const;

const DEFAULT_URL = 'http://127.0.0.1:8370';
/** Written by a development start. */
const DEFAULT_AUTHORIZATION = '.twofold/admin.header';
const HEADER = /^Authorization: (Bearer [A-Za-z0-9._-]+)$/u;

/** The header's value from a file of the form that `curl -H @file` takes, mode 0600. */
function readAuthorization(path: string): string {
  const [, value] = HEADER.exec(Buffer.from(readSecretFile(path)).toString('latin1')) ?? [];
  if (value !== undefined) return value;
  const form = 'Authorization: Bearer …';
  throw new ClientError('invalid_value', `${path} does not consist of a line "${form}".`);
}

function readCertificates(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new ClientError('file_failed', `${path} cannot be read.`, cause);
  }
}

/**
 * @throws ClientError invalid_value, file_failed
 * @throws TwofoldError invalid_value for a token file that others may read
 */
export function connectionOptions(
  { values }: ParsedFlags,
  signal: AbortSignal,
): HttpConnectionOptions {
  const one = (flag: string) => values.get(flag)?.[0];
  const [text, ca] = [one('url') ?? DEFAULT_URL, one('ca')];
  const path = one('authorization') ?? DEFAULT_AUTHORIZATION;
  if (!URL.canParse(text)) throw new ClientError('invalid_value', '--url is not a URL.');
  const url = new URL(text);
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    const detail =
      'What is sent and answered would go in the clear: use https, or http on this host alone.';
    throw new ClientError('invalid_value', detail);
  }
  return {
    url,
    authorization: () => readAuthorization(path),
    ...(ca === undefined ? {} : { ca: readCertificates(ca) }),
    signal,
  };
}
