/** `twofold token`: a token of the development issuer, so that roles and denials can be tried. */
import { parseFlags, requireNothingMore } from '../cli/arguments.ts';
import { parseDuration } from '../cli/duration.ts';
import type { Config } from '../config.ts';
import { DevelopmentIssuer } from '../access/development-issuer.ts';
import { TwofoldError } from '../errors.ts';

const FLAGS = { role: 'list', ttl: 'value', subject: 'value', header: 'switch' } as const;
const ROLES = ['admin', 'operator', 'user', 'auditor'];
const LONGEST_SECONDS = 86_400;

/**
 * Prints the token, or with `--header` the line for `curl -H @file`.
 * @throws TwofoldError invalid_value, not_found where no service was started yet
 */
export async function tokenCommand(
  config: Config,
  argv: readonly string[],
  print: (line: string) => void,
): Promise<void> {
  const parsed = parseFlags(argv, FLAGS);
  requireNothingMore(parsed);
  if (config.mode !== 'dev') {
    throw new TwofoldError('invalid_value', 'Only a development service has an issuer of its own.');
  }
  const roles = parsed.values.get('role') ?? [];
  const unknown = roles.find((role) => !ROLES.includes(role));
  if (roles.length === 0 || unknown !== undefined) {
    throw new TwofoldError(
      'invalid_value',
      `--role is one of ${ROLES.join(', ')}; give it once for each.`,
    );
  }
  const ttlSeconds = parseDuration(parsed.values.get('ttl')?.[0] ?? '1h');
  if (ttlSeconds > LONGEST_SECONDS) {
    throw new TwofoldError('invalid_value', 'A development token lives a day at most.');
  }
  const subject = parsed.values.get('subject')?.[0];
  const issuer = await DevelopmentIssuer.open({ folder: config.dataDir, create: false });
  const { token } = await issuer.issueToken({
    roles,
    ttlSeconds,
    ...(subject === undefined ? {} : { subject }),
  });
  print(parsed.values.has('header') ? `Authorization: Bearer ${token}` : token);
}
