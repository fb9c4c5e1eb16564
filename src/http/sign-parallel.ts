/**
 * One message signed with several keys. The permission to sign in parallel is the caller's way in;
 * each key then takes `sign` as if it were asked for alone, before anything is signed with any.
 */
import * as contract from '../contract/sign-parallel.ts';
import { couldNameKey } from '../contract/scalars.ts';
import { findSuiteByNumber } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { route } from './route.ts';
import { givenVersion, usedMembers } from './used.ts';
import type { Grant } from '../access/grant.ts';
import type { KeyUse, Used } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { AuditNotes } from './notes.ts';
import type { GuardedRoute } from './route.ts';

type Signed = Awaited<ReturnType<KeyUse['signJws']>>;

interface Signing {
  readonly grant: Grant<'sign'>;
  readonly keyVersion?: number | undefined;
}

interface Parts {
  readonly use: Pick<KeyUse, 'signJws'>;
  readonly visible: (error: unknown, key?: string | null) => TwofoldError;
}

/** Signs with all; when one fails, waits for the others and throws the first failure by order. */
async function signAll(
  { use, visible }: Parts,
  signings: readonly Signing[],
  payload: Uint8Array,
): Promise<readonly Signed[]> {
  const results = await Promise.allSettled(
    signings.map(({ grant, ...which }) => use.signJws(grant, { payload, ...givenVersion(which) })),
  );
  return results.map((result, index) => {
    if (result.status === 'fulfilled') return result.value;
    const { reason } = result as { readonly reason: unknown };
    throw TwofoldError.is(reason) ? visible(reason, signings[index]?.grant.key ?? null) : reason;
  });
}

/** The entry's columns are those of the first key; its details name all. */
function noteKeys(notes: AuditNotes, signed: readonly Signed[]): void {
  const [first] = signed;
  if (first !== undefined) notes.used(first.used);
  const all = signed.map(({ used }) => [used.keyId, used.keyVersion, used.suite]);
  notes.detail({ signedBy: JSON.stringify(all) });
}

/** Two references may name one key: by its name and by its UUID. */
function requireDistinct(used: readonly Used[]): void {
  if (new Set(used.map(({ keyId }) => keyId)).size === used.length) return;
  throw new TwofoldError('invalid_value', 'Two of the keys are one.');
}

const isVulnerable = ({ suiteNumber }: Used): boolean =>
  findSuiteByNumber(suiteNumber).strength.quantumVulnerable;

/** Classical signatures alone are no step of a migration, and would pass for one. */
function requirePostQuantum(used: readonly Used[]): void {
  if (!used.every(isVulnerable)) return;
  throw new TwofoldError('invalid_value', 'At least one key has to be post-quantum or composite.');
}

const shown = (used: Used) => ({
  ...usedMembers(used),
  quantumVulnerable: isVulnerable(used),
});

export function parallelRoutes({ use }: Pick<HttpDependencies, 'use'>): readonly GuardedRoute[] {
  return [
    route(contract.signParallel, {
      handle: async ({ grantFor, body, notes, visible, resolve }) => {
        const { keys, message } = body;
        notes.named(keys[0]?.key ?? '');
        for (const { key } of keys) notes.alsoKey(key);
        const named = keys.map(({ key }) => key).filter(couldNameKey);
        notes.detail({ keys: JSON.stringify(named) });
        await resolve(...keys.map(({ key }) => key));
        const signings = keys.map(({ key, keyVersion }) => ({
          grant: grantFor('sign', key),
          keyVersion,
        }));
        const signed = await signAll({ use, visible }, signings, message);
        noteKeys(notes, signed);
        requireDistinct(signed.map(({ used }) => used));
        requirePostQuantum(signed.map(({ used }) => used));
        const signatures = signed.map(({ jws }) => ({
          protected: jws.protected,
          signature: jws.signature,
        }));
        const payload = signed[0]?.jws.payload ?? '';
        return {
          body: { jws: { payload, signatures }, keys: signed.map(({ used }) => shown(used)) },
        };
      },
    }),
  ];
}
