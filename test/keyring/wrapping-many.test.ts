/** Many items at once: each has the outcome that it has alone. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { TwofoldError } from '../../src/errors.ts';
import type {
  Opened,
  Rewrapped,
  Used,
  UnwrapInput,
  WrapInput,
} from '../../src/keyring/operations.ts';
import type { Settled } from '../../src/settled.ts';
import { GCM_LIMIT } from '../../src/keyring/usage.ts';
import { handleId } from '../../src/keyring/material.ts';
import { wrapOffline } from './offline.ts';
import { NO_BINDING, aRun, openWorld, secret, toSuite } from './world.ts';
import type { World } from './world.ts';

let world: World;
/** Versions 1 and 3 symmetric, 2 hybrid, 4 symmetric and suspended. */
let key: string;
const envelopes: Record<string, Uint8Array> = {};

const bound = { encryptionContext: { tenant: 'a' }, aad: Buffer.from('aad') };
const use = () => world.keyring.use;
const text = (kind: string) =>
  kind === 'empty' ? '' : kind === 'long' ? 'x'.repeat(65_536) : kind;
const codeOf = (error: unknown) => TwofoldError.from(error).code;

beforeAll(async () => {
  world = await openWorld();
  key = await world.create({ suite: 'A256GCM' });
  const other = await world.create({ suite: 'A256GCM' });
  const rotate = (suite: string) =>
    world.keyring.manage.rotate(world.grant('keys.rotate', key), toSuite(suite), aRun());
  envelopes['first'] = await world.wrap(key, 'first');
  await rotate('MLKEM768-P256');
  envelopes['hybrid'] = await world.wrap(key, 'hybrid');
  await rotate('A256GCM');
  for (const name of ['plain', 'empty', 'long']) {
    envelopes[name] = await world.wrap(key, text(name));
  }
  envelopes['bound'] = await world.wrap(key, 'bound', bound);
  await rotate('A256GCM');
  envelopes['suspended'] = await world.wrap(key, 'suspended');
  await rotate('A256GCM');
  const stop = { version: 4, reason: 'test' };
  await world.keyring.manage.suspendVersion(world.grant('versions.suspend', key), stop, aRun());
  envelopes['other key'] = await world.wrap(other, 'x');
  const changed = (at: number, from = envelopes['plain'] ?? new Uint8Array()) =>
    from.map((byte, index) => (index === (at + from.length) % from.length ? byte ^ 1 : byte));
  envelopes['bad tag'] = changed(-1);
  envelopes['bad hybrid'] = changed(-1, envelopes['hybrid']);
  envelopes['bad version'] = changed(22);
  envelopes['bad mode'] = changed(1);
  envelopes['bad suite'] = changed(3);
  envelopes['too short'] = (envelopes['plain'] ?? new Uint8Array()).subarray(0, 30);
});
afterAll(() => world.stop());

interface Told {
  readonly outcome: unknown;
  readonly selected: readonly Used[];
  readonly keys: readonly string[];
}

/** An input that notes what it is told. */
function noting<I extends object>(input: I) {
  const [selected, keys]: [Used[], string[]] = [[], []];
  const onKey = (id: string) => void keys.push(id);
  const onSelected = (used: Used) => void selected.push(used);
  return { input: { ...input, onKey, onSelected }, selected, keys };
}

const shown = ({ used, plaintext, origin }: Opened) => ({
  used,
  origin,
  text: Buffer.from(plaintext.reveal()).toString(),
});

async function one<I extends object, R>(input: I, run: (input: I) => Promise<R>): Promise<Told> {
  const { input: given, ...told } = noting(input);
  return { ...told, outcome: await run(given).catch(codeOf) };
}

async function all<I extends object, R>(
  inputs: readonly I[],
  run: (inputs: readonly I[]) => Promise<readonly Settled<R>[]>,
  show: (result: R) => unknown,
): Promise<readonly Told[]> {
  const given = inputs.map(noting);
  const settled = await run(given.map(({ input }) => input));
  expect(settled).toHaveLength(inputs.length);
  return given.map(({ selected, keys }, index) => {
    const result = settled[index];
    return {
      selected,
      keys,
      outcome: TwofoldError.is(result) ? result.code : show(result as R),
    };
  });
}

describe('unwrapMany', () => {
  it('answers each item as unwrap does', async () => {
    const grant = world.grant('unwrap', key);
    const item = fc.record({
      name: fc.constantFrom(...Object.keys(envelopes)),
      binding: fc.constantFrom(NO_BINDING, NO_BINDING, bound),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(item, { maxLength: 80 }), async (items) => {
        const inputs = items.map(({ name, binding }): UnwrapInput => ({
          ciphertext: envelopes[name] ?? new Uint8Array(),
          binding,
        }));
        const unwrap = async (input: UnwrapInput) => shown(await use().unwrap(grant, input));
        const alone = await Promise.all(inputs.map((input) => one(input, unwrap)));
        const many = await all(inputs, (given) => use().unwrapMany(grant, given), shown);
        expect(many).toEqual(alone);
      }),
      { numRuns: 40 },
    );
  });

  it('knows what it is to tell apart', async () => {
    const grant = world.grant('unwrap', key);
    const inputs = Object.values(envelopes).map((ciphertext) => ({
      ciphertext,
      binding: NO_BINDING,
    }));
    const many = await all(inputs, (given) => use().unwrapMany(grant, given), shown);
    const codes = many.map(({ outcome }) => (typeof outcome === 'string' ? outcome : 'ok'));
    expect(Object.fromEntries(Object.keys(envelopes).map((name, at) => [name, codes[at]]))).toEqual(
      {
        first: 'ok',
        hybrid: 'ok',
        plain: 'ok',
        empty: 'ok',
        long: 'ok',
        bound: 'decryption_failed',
        suspended: 'version_not_usable',
        'other key': 'key_mismatch',
        'bad tag': 'decryption_failed',
        'bad hybrid': 'decryption_failed',
        'bad version': 'version_not_found',
        'bad mode': 'invalid_envelope',
        'bad suite': 'unknown_suite',
        'too short': 'invalid_envelope',
      },
    );
  });

  it('under a key that is not there fails each item that parsed', async () => {
    const grant = world.grant('unwrap', 'nowhere');
    const inputs = ['plain', 'too short'].map((name) => ({
      ciphertext: envelopes[name] ?? new Uint8Array(),
      binding: NO_BINDING,
    }));
    const many = await all(inputs, (given) => use().unwrapMany(grant, given), shown);
    expect(many.map(({ outcome }) => outcome)).toEqual(['key_not_found', 'invalid_envelope']);
  });

  it('calls the HSM once for the items of a version', async () => {
    const { calls } = world.device;
    const before = calls.length;
    const ciphertext = envelopes['plain'] ?? new Uint8Array();
    const inputs = Array.from({ length: 40 }, () => ({ ciphertext, binding: NO_BINDING }));
    await use().unwrapMany(world.grant('unwrap', key), inputs);
    expect(calls.slice(before)).toEqual(['decryptMany']);
  });
});

describe('wrapMany', () => {
  const versions = fc.constantFrom(undefined, 1, 2, 3, 4, 9);

  it('answers each item as wrap does, and what it answers opens', async () => {
    const grant = world.grant('wrap', key);
    const item = fc.record({
      name: fc.constantFrom('empty', 'long', 'plain', 'too long'),
      version: versions,
      binding: fc.constantFrom(NO_BINDING, bound),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(item, { maxLength: 60 }), async (items) => {
        const inputs = items.map(({ name, version, binding }): WrapInput => ({
          plaintext: secret(name === 'too long' ? 'x'.repeat(65_537) : text(name)),
          binding,
          ...(version === undefined ? {} : { keyVersion: version }),
        }));
        const results: unknown[] = [];
        const many = await all(
          inputs,
          (given) => use().wrapMany(grant, given),
          ({ used, ciphertext, refreshAfter }) => {
            results.push(ciphertext);
            return { used, length: ciphertext.length, refreshAfter };
          },
        );
        const wrap = async (input: WrapInput) => {
          const { used, ciphertext, refreshAfter } = await use().wrap(grant, input);
          return { used, length: ciphertext.length, refreshAfter };
        };
        expect(many).toEqual(await Promise.all(inputs.map((input) => one(input, wrap))));
        const good = items.filter((_, index) => typeof many[index]?.outcome !== 'string');
        for (const [index, ciphertext] of results.entries()) {
          const { name = '', binding } = good[index] ?? {};
          const opened = await world.unwrap(key, ciphertext as Uint8Array, binding);
          expect(opened).toBe(text(name));
        }
      }),
      { numRuns: 25 },
    );
  });

  it('counts every item, and ends at 2^32 uses exactly', async () => {
    const id = await world.create({ suite: 'A256GCM' });
    const counter = handleId(id, 1);
    await world.store.reserveUses(counter, GCM_LIMIT - 70);
    const inputs = Array.from({ length: 90 }, () => ({
      plaintext: secret('x'),
      binding: NO_BINDING,
    }));
    const settled = await use().wrapMany(world.grant('wrap', id), inputs);
    const codes = settled.map((each) => (TwofoldError.is(each) ? each.code : 'ok'));
    expect(codes.slice(0, 70)).toEqual(Array.from({ length: 70 }).fill('ok'));
    expect(codes.slice(70)).toEqual(Array.from({ length: 20 }).fill('version_not_usable'));
    const input = { plaintext: secret('x'), binding: NO_BINDING };
    await expect(use().wrap(world.grant('wrap', id), input)).rejects.toMatchObject({
      code: 'version_not_usable',
    });
  });

  it('with a counter that cannot be kept encrypts nothing', async () => {
    const id = await world.create({ suite: 'A256GCM' });
    const { calls } = world.device;
    const before = calls.length;
    const reserve = world.store.reserveUses.bind(world.store);
    world.store.reserveUses = () => Promise.reject(new TwofoldError('database_unavailable'));
    const input = { plaintext: secret('x'), binding: NO_BINDING };
    const settled = await use().wrapMany(world.grant('wrap', id), [input, input]);
    world.store.reserveUses = reserve;
    expect(settled.map(codeOf)).toEqual(['database_unavailable', 'database_unavailable']);
    expect(calls.slice(before)).not.toContain('encryptMany');
  });
});

describe('rewrapMany', () => {
  it('answers each item as rewrap does, and what it answers opens', async () => {
    const hybrid = await world.create();
    const source = await world.create();
    const symmetric = await world.create({ suite: 'A256GCM' });
    const stopped = await world.create();
    const reason = { reason: 'test' };
    await world.keyring.manage.suspend(world.grant('keys.suspend', stopped), reason, aRun());
    const froms: Record<string, Uint8Array> = {
      ...envelopes,
      own: await world.wrap(source, 'own'),
      anyone: await wrapOffline(world, source, 'anyone'),
    };
    const item = fc.record({
      name: fc.constantFrom(...Object.keys(froms)),
      binding: fc.constantFrom(NO_BINDING, NO_BINDING, bound),
    });
    const to = fc.constantFrom(null, hybrid, symmetric, stopped, 'nowhere');
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(key, source),
        to,
        fc.array(item, { maxLength: 230 }),
        async (from, target, items) => {
          const grant = world.grant('rewrap', from);
          const into = target === null ? null : world.grant('rewrap', target);
          const inputs = items.map(({ name, binding }): UnwrapInput => ({
            ciphertext: froms[name] ?? new Uint8Array(),
            binding,
          }));
          const told = ({ used, from: opened, changed }: Rewrapped) => ({ used, opened, changed });
          const moved: { ciphertext: Uint8Array; to: string }[] = [];
          const many = await all(
            inputs,
            (given) => use().rewrapMany(grant, into, given),
            (result) => {
              moved.push({ ciphertext: result.ciphertext, to: result.used.keyId });
              return told(result);
            },
          );
          const rewrap = async (input: UnwrapInput) => told(await use().rewrap(grant, into, input));
          expect(many).toEqual(await Promise.all(inputs.map((input) => one(input, rewrap))));
          const good = items.filter((_, index) => typeof many[index]?.outcome !== 'string');
          for (const [index, { ciphertext, to: where }] of moved.entries()) {
            const { name = '', binding } = good[index] ?? {};
            const opened = await use().unwrap(world.grant('unwrap', where), {
              ciphertext,
              binding: binding ?? NO_BINDING,
            });
            const plain = name === 'own' || name === 'anyone' ? name : text(name);
            expect(shown(opened)).toMatchObject({
              text: plain,
              origin: name === 'anyone' ? 'anyone' : 'service',
            });
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it('never raises an origin, and calls the HSM once for what is symmetric', async () => {
    const source = await world.create();
    const symmetric = await world.create({ suite: 'A256GCM' });
    const ciphertext = await wrapOffline(world, source, 'anyone');
    const service = await world.wrap(source, 'own');
    const inputs = [ciphertext, ...Array.from({ length: 20 }, () => service), ciphertext].map(
      (each) => ({ ciphertext: each, binding: NO_BINDING }),
    );
    const { calls } = world.device;
    const before = calls.length;
    const grants = [world.grant('rewrap', source), world.grant('rewrap', symmetric)] as const;
    const settled = await use().rewrapMany(...grants, inputs);
    expect(settled.map((each) => (TwofoldError.is(each) ? each.code : 'ok'))).toEqual([
      'origin_would_rise',
      ...Array.from({ length: 20 }, () => 'ok'),
      'origin_would_rise',
    ]);
    const made = calls.slice(before).filter((call) => call.startsWith('encrypt'));
    expect(made).toEqual(['encryptMany']);
  });
});
