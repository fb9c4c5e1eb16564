import { describe, expect, it } from '@jest/globals';

import type { HsmKey } from '../../src/hsm/port.ts';
import { lackingIn, namingZones } from '../../src/main/token-zones.ts';
import { SoftwareHsm, SoftwareToken } from '../hsm/software-hsm.ts';

const ROOT = { installation: '5e1f8b1c-98a4-4b5e-9d5d-1d2f6a3b4c5d', generation: 1 };

async function opened(): Promise<SoftwareHsm> {
  const token = new SoftwareToken();
  token.makeRoot(ROOT);
  const hsm = new SoftwareHsm(token);
  await hsm.useRoot(ROOT);
  return hsm;
}

describe('an HSM that names the zones of a key', () => {
  const bytes = Buffer.from('text');
  const asked: string[] = [];
  const zones = {
    zone: 'b',
    instances: {
      zonesWithToken: (serial: string) => {
        asked.push(serial);
        return Promise.resolve(['a', 'c']);
      },
    },
  };
  const keyOn = async (hsm: SoftwareHsm): Promise<HsmKey> => {
    const spec = { kind: 'aes', bits: 256 } as const;
    const objectId = new Uint8Array(37);
    const material = await hsm.generate(spec, { custody: 'hsm-token', objectId });
    return { id: 'key/1', spec, material };
  };

  it('names them for one use and for each of a batch, which asks once', async () => {
    const home = await opened();
    const key = await keyOn(home);
    const hsm = namingZones(await opened(), zones);
    const { serial } = home.token;
    const lacks = {
      code: 'zone_lacks_material',
      detail: `The key lives on the token ${serial}, which zone b has not. It can be used in: a, c.`,
    };
    await expect(hsm.encrypt(key, bytes, bytes)).rejects.toMatchObject(lacks);
    const item = { plaintext: bytes, aad: bytes };
    const sealed = { ...(await home.encrypt(key, bytes, bytes)), aad: bytes };
    asked.length = 0;
    expect(await hsm.encryptMany(key, [item, item])).toMatchObject([lacks, lacks]);
    expect(await hsm.decryptMany(key, [sealed, sealed])).toMatchObject([lacks, lacks]);
    expect(asked).toEqual([serial, serial]);
  });

  it('leaves what succeeds, and other failures, as they are', async () => {
    const home = await opened();
    const key = await keyOn(home);
    const hsm = namingZones(home, zones);
    const sealed = { ...(await home.encrypt(key, bytes, bytes)), aad: bytes };
    asked.length = 0;
    const settled = await hsm.decryptMany(key, [sealed, { ...sealed, aad: Buffer.from('other') }]);
    expect(settled).toMatchObject([{}, { code: 'decryption_failed' }]);
    expect(asked).toEqual([]);
  });

  it('says so where no zone has the token, or nobody knows', async () => {
    const none = { zone: 'b', instances: { zonesWithToken: () => Promise.resolve([]) } };
    expect((await lackingIn(none)('s')).detail).toMatch(/No zone that runs has it\.$/u);
    const away = { zone: 'b', instances: { zonesWithToken: () => Promise.reject(new Error()) } };
    expect((await lackingIn(away)('s')).detail).toMatch(/not known while the database is away\.$/u);
  });
});
