/**
 * P5 for who is let in: once a denial has been answered by one instance, another one answers nothing more
 * to who is denied, neither what is asked afterwards nor what was under way.
 */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NAME } from '../../src/name.ts';
import type { ServiceOptions, Service } from '../http/service.ts';
import { Site } from '../http/stored-service.ts';
import type { Instance } from '../keyring/world.ts';

let site: Site;
let first: Service<Instance>;
let second: Service<Instance>;
/** Runs after a wrap of the second instance was made, and before it is answered. */
let meanwhile: () => Promise<unknown> = () => Promise.resolve();

const held: ServiceOptions = {
  replace: ({ use }) => ({
    use: Object.assign(Object.create(use) as typeof use, {
      wrap: async (...call: Parameters<typeof use.wrap>) => {
        const made = await use.wrap(...call);
        await meanwhile();
        return made;
      },
    }),
  }),
};

beforeAll(async () => {
  site = await Site.open();
  first = await site.service();
  second = await site.service(held);
  await first.call('admin', 'POST', '/v1/admin/keys', { json: { name: 'k', suite: 'A256GCM' } });
}, 60_000);
afterAll(() => site.close(), 60_000);

const wrapAs = async (token: string, namespace = 'default') => {
  const headers = { authorization: `Bearer ${token}`, 'twofold-namespace': namespace };
  const init = { headers, json: { plaintext: 'AAAA' } };
  const { status, json } = await second.call(null, 'POST', '/v1/keys/k/wrap', init);
  return status === 200 ? 200 : json['code'];
};
const deny = (subject: string) =>
  first.call('admin', 'POST', '/v1/admin/denials', {
    json: { issuer: NAME.developmentIssuer, subject, reason: 'gone' },
  });

describe('P5: a denial', () => {
  it('ends at once what another instance has verified and remembers', async () => {
    const token = await second.token('user', 600, 'gone-1');
    expect(await wrapAs(token)).toBe(200);
    expect((await deny('gone-1')).status).toBe(201);
    expect(await wrapAs(token)).toBe('token_denied');
  });

  it('keeps back the answer that another instance has under way', async () => {
    const token = await second.token('user', 600, 'gone-2');
    expect(await wrapAs(token)).toBe(200);
    let answered = 0;
    meanwhile = async () => {
      meanwhile = () => Promise.resolve();
      answered = (await deny('gone-2')).status;
    };
    expect(await wrapAs(token)).toBe('token_denied');
    expect(answered).toBe(201);
  });
});
