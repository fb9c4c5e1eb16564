/** What a request shows of who sends it. */
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';

import { couldNameKey } from '../contract/scalars.ts';
import { DEFAULT_NAMESPACE } from './dependencies.ts';
import type { Credentials } from '../access/ports.ts';
import type { HeaderValues } from './head.ts';

const NAMESPACE_HEADER = 'twofold-namespace';

/** As the request names it; checked with the other headers, after permission. */
export const namespaceOf = (head: HeaderValues): string =>
  head[NAMESPACE_HEADER] ?? DEFAULT_NAMESPACE;

export function credentialsOf(request: IncomingMessage, head: HeaderValues): Credentials {
  const { authorization } = request.headers;
  const namespace = namespaceOf(head);
  const { socket } = request;
  return {
    authorization,
    certificate: socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined,
    // What can be no name is no namespace, and is not remembered.
    namespace: couldNameKey(namespace) ? namespace : '',
  };
}
