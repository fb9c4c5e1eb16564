/** Routes that sign and verify. */
import * as contract from '../contract/sign.ts';
import { oneByOne, runBatch } from './batch.ts';
import { notedBy } from './notes.ts';
import { route } from './route.ts';
import { givenVersion, orEmpty, usedMembers } from './used.ts';
import type { Grant } from '../access/grant.ts';
import type { DigestAlgorithm } from '../contract/sign.ts';
import type { KeyUse, Selecting, SignInput } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { NotedContext } from './notes.ts';
import type { GuardedRoute } from './route.ts';

interface Signable {
  readonly message?: Uint8Array | undefined;
  readonly digest?: { readonly algorithm: DigestAlgorithm; readonly value: Uint8Array } | undefined;
  readonly signatureContext?: Uint8Array | undefined;
  readonly keyVersion?: number | undefined;
}

interface Verifiable extends Signable {
  readonly signature: Uint8Array;
}

/** The contract has seen to it that exactly one of the two is there. */
const inputOf = ({ message, digest }: Signable): SignInput =>
  digest === undefined ? { message: orEmpty(message) } : { digest };
/** In audit entries a signature's context stands where a wrap's associated data does. */
const contextOf = ({ signatureContext }: Signable): NotedContext => ({ aad: signatureContext });

async function sign(use: KeyUse, grant: Grant<'sign'>, input: Signable, selecting: Selecting) {
  const { used, signature } = await use.sign(grant, {
    ...inputOf(input),
    signatureContext: orEmpty(input.signatureContext),
    ...givenVersion(input),
    ...selecting,
  });
  return { used, answer: { signature, ...usedMembers(used) } };
}

async function verify(
  use: KeyUse,
  grant: Grant<'verify'>,
  input: Verifiable,
  selecting: Selecting,
) {
  const { used, valid } = await use.verify(grant, {
    ...inputOf(input),
    signatureContext: orEmpty(input.signatureContext),
    signature: input.signature,
    ...givenVersion(input),
    ...selecting,
  });
  return { used, answer: { valid, ...usedMembers(used) } };
}

export function signRoutes({ use }: Pick<HttpDependencies, 'use'>): readonly GuardedRoute[] {
  return [
    route(contract.sign, {
      handle: async ({ grant, body, notes }) => {
        notes.context(contextOf(body));
        const { used, answer } = await sign(use, grant, body, notedBy(notes));
        notes.used(used);
        return { body: answer };
      },
    }),
    route(contract.signBatch, {
      handle: (call) => {
        const { grant } = call;
        const run = (item: Signable, selecting: Selecting) => sign(use, grant, item, selecting);
        return runBatch({ call, contextOf, run: oneByOne(run) });
      },
    }),
    route(contract.verify, {
      handle: async ({ grant, body, notes }) => {
        notes.context(contextOf(body));
        const { used, answer } = await verify(use, grant, body, notedBy(notes));
        notes.used(used);
        notes.detail({ valid: answer.valid });
        return { body: answer };
      },
    }),
    route(contract.verifyBatch, {
      handle: (call) => {
        const { grant } = call;
        const run = (item: Verifiable, selecting: Selecting) => verify(use, grant, item, selecting);
        return runBatch({ call, contextOf, run: oneByOne(run) });
      },
    }),
  ];
}
