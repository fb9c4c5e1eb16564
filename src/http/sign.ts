/** Routes that sign and verify. */
import * as contract from '../contract/sign.ts';
import { oneByOne, runBatch } from './batch.ts';
import { notedBy } from './notes.ts';
import { route } from './route.ts';
import { givenVersion, orEmpty, usedMembers } from './used.ts';
import type { z } from 'zod';
import type { Grant } from '../access/grant.ts';
import type { DigestAlgorithm } from '../contract/sign.ts';
import type { KeyUse, Selecting, SignInput, Used } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { NotedContext } from './notes.ts';
import type { Answerable } from './render.ts';
import type { GuardedRoute } from './route.ts';

interface Signable {
  readonly message?: Uint8Array | undefined;
  readonly digest?: { readonly algorithm: DigestAlgorithm; readonly value: Uint8Array } | undefined;
  readonly mu?: Uint8Array | undefined;
  readonly signatureContext?: Uint8Array | undefined;
  readonly keyVersion?: number | undefined;
}

interface Formed extends Signable {
  readonly format?: 'raw' | 'jws' | undefined;
}

interface Verifiable extends Signable {
  readonly signature?: Uint8Array | undefined;
  readonly jws?: string | undefined;
}

/** The contract has seen to it that exactly one of the three is there. */
function inputOf({ message, digest, mu }: Signable): SignInput {
  if (digest !== undefined) return { digest };
  return mu === undefined ? { message: orEmpty(message) } : { mu };
}
/** In audit entries a signature's context stands where a wrap's associated data does. */
const contextOf = ({ signatureContext }: Signable): NotedContext => ({ aad: signatureContext });

interface SignDone {
  readonly used: Used;
  readonly answer: Answerable<z.output<typeof contract.sign.response>>;
}

type SignOf = (
  use: KeyUse,
  grant: Grant<'sign'>,
  input: Formed,
  selecting: Selecting,
) => Promise<SignDone>;

const signJws: SignOf = async (use, grant, input, selecting) => {
  const { used, jws } = await use.signJws(grant, {
    payload: orEmpty(input.message),
    ...givenVersion(input),
    ...selecting,
  });
  const compact = [jws.protected, jws.payload, jws.signature].join('.');
  return { used, answer: { jws: compact, ...usedMembers(used) } };
};

const sign: SignOf = async (use, grant, input, selecting) => {
  if (input.format === 'jws') return signJws(use, grant, input, selecting);
  const { used, signature } = await use.sign(grant, {
    ...inputOf(input),
    signatureContext: orEmpty(input.signatureContext),
    ...givenVersion(input),
    ...selecting,
  });
  return { used, answer: { signature, ...usedMembers(used) } };
};

async function verify(
  use: KeyUse,
  grant: Grant<'verify'>,
  input: Verifiable,
  selecting: Selecting,
) {
  const which = { ...givenVersion(input), ...selecting };
  const { used, valid } =
    input.jws === undefined
      ? await use.verify(grant, {
          ...inputOf(input),
          signatureContext: orEmpty(input.signatureContext),
          signature: orEmpty(input.signature),
          ...which,
        })
      : await use.verifyJws(grant, { jws: input.jws, ...which });
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
        const run = (item: Formed, selecting: Selecting) => sign(use, grant, item, selecting);
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
