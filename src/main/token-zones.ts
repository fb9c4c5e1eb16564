/** Where keys live that one token alone has: a zone that lacks one names the zones that can. */
import { TwofoldError } from '../errors.ts';
import type { Hsm, HsmKey } from '../hsm/port.ts';
import type { InstanceStore } from '../keyring/instance-ports.ts';

export interface TokenZones {
  /** Of this process. */
  readonly zone: string;
  readonly instances: Pick<InstanceStore, 'zonesWithToken'>;
}

type Method = (...args: unknown[]) => Promise<unknown>;

const CALLS = ['ecdh', 'sign', 'decryptOaep', 'encrypt', 'decrypt', 'mac'] as const;
/** Their failures are outcomes of items. */
const OF_MANY = ['encryptMany', 'decryptMany', 'macMany'] as const;

/** The same HSM; where it lacks a token key, the error says in which zones the key can be used. */
export function namingZones(hsm: Hsm, zones: TokenZones): Hsm {
  const made = new Map<string | symbol, Method>();
  for (const name of CALLS) {
    const call = hsm[name].bind(hsm) as (...args: unknown[]) => Promise<unknown>;
    made.set(name, async (...args) => {
      try {
        return await call(...args);
      } catch (error) {
        throw await named(error, args[0] as HsmKey, zones);
      }
    });
  }
  for (const name of OF_MANY) {
    const call = hsm[name].bind(hsm) as (...args: unknown[]) => Promise<readonly unknown[]>;
    made.set(name, async (...args) => {
      const settled = await call(...args);
      // Of one key, so that one question tells of all of them.
      const lacking = settled.find((item) => TwofoldError.is(item, 'zone_lacks_material'));
      if (lacking === undefined) return settled;
      const told = await named(lacking, args[0] as HsmKey, zones);
      return settled.map((item) => (TwofoldError.is(item, 'zone_lacks_material') ? told : item));
    });
  }
  return new Proxy(hsm, {
    get: (target, name) => {
      const known = made.get(name);
      if (known !== undefined) return known;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
}

async function named(error: unknown, { material }: HsmKey, zones: TokenZones): Promise<unknown> {
  if (!TwofoldError.is(error, 'zone_lacks_material')) return error;
  if (material.custody !== 'hsm-token') return error;
  return lackingIn(zones)(material.tokenSerial, error);
}

/** What is said of a key on a token that this zone has not, with the zones that have it. */
export const lackingIn =
  ({ zone, instances }: TokenZones) =>
  async (serial: string, cause?: unknown): Promise<TwofoldError> => {
    const found = await instances.zonesWithToken(serial).catch(() => null);
    const can =
      found === null
        ? 'Which zones have it is not known while the database is away.'
        : found.length === 0
          ? 'No zone that runs has it.'
          : `It can be used in: ${found.join(', ')}.`;
    const detail = `The key lives on the token ${serial}, which zone ${zone} has not. ${can}`;
    return new TwofoldError('zone_lacks_material', detail, { cause });
  };
