/** Routes that make and check MACs. */
import * as contract from '../contract/mac.ts';
import { oneByOne, runBatch } from './batch.ts';
import { notedBy } from './notes.ts';
import { route } from './route.ts';
import { givenVersion, usedMembers } from './used.ts';
import type { Grant } from '../access/grant.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { KeyUse, Selecting } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute } from './route.ts';

interface Message {
  readonly message: Uint8Array;
  readonly keyVersion?: number | undefined;
}

interface Authenticated extends Message {
  readonly mac: Uint8Array;
}

type Own = (secret: SecretBytes) => SecretBytes;

const contextOf = () => ({});

async function mac(
  use: KeyUse,
  grant: Grant<'mac'>,
  input: Message,
  own: Own,
  selecting: Selecting,
) {
  const { message } = input;
  const made = await use.mac(grant, { message, ...givenVersion(input), ...selecting });
  return { used: made.used, answer: { mac: own(made.mac), ...usedMembers(made.used) } };
}

async function verifyMac(
  use: KeyUse,
  grant: Grant<'verify-mac'>,
  input: Authenticated,
  selecting: Selecting,
) {
  const { message, mac } = input;
  const { used, valid } = await use.verifyMac(grant, {
    message,
    mac,
    ...givenVersion(input),
    ...selecting,
  });
  return { used, answer: { valid, ...usedMembers(used) } };
}

export function macRoutes({ use }: Pick<HttpDependencies, 'use'>): readonly GuardedRoute[] {
  return [
    route(contract.mac, {
      handle: async ({ grant, body, notes, own }) => {
        const { used, answer } = await mac(use, grant, body, own, notedBy(notes));
        notes.used(used);
        return { body: answer };
      },
    }),
    route(contract.macBatch, {
      handle: (call) => {
        const { grant, own } = call;
        const run = oneByOne((item: Message, selecting: Selecting) =>
          mac(use, grant, item, own, selecting),
        );
        return runBatch({ call, contextOf, run });
      },
    }),
    route(contract.verifyMac, {
      handle: async ({ grant, body, notes }) => {
        const { used, answer } = await verifyMac(use, grant, body, notedBy(notes));
        notes.used(used);
        notes.detail({ valid: answer.valid });
        return { body: answer };
      },
    }),
    route(contract.verifyMacBatch, {
      handle: (call) => {
        const { grant } = call;
        const run = oneByOne((item: Authenticated, selecting: Selecting) =>
          verifyMac(use, grant, item, selecting),
        );
        return runBatch({ call, contextOf, run });
      },
    }),
  ];
}
