/** How the service is reached, as by the commands of `twofold` itself. */
import { HttpKeyService } from '../../src/client/http-key-service.ts';
import { connectionOptions } from '../../src/cli/connection.ts';
import type { ParsedFlags } from '../../src/cli/arguments.ts';

export { CONNECTION_FLAGS } from '../../src/cli/connection.ts';

/**
 * @throws ClientError invalid_value, file_failed
 * @throws TwofoldError invalid_value for a token file that others may read
 */
export function connect(flags: ParsedFlags, signal: AbortSignal) {
  const service = new HttpKeyService(connectionOptions(flags, signal));
  return { service, close: () => service.close() };
}
