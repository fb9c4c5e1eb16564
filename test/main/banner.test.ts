import { describe, expect, it } from '@jest/globals';

import { loadConfig } from '../../src/config.ts';
import type { HsmStatus } from '../../src/hsm/port.ts';
import { welcome } from '../../src/main/banner.ts';
import type { RunningService } from '../../src/main/running.ts';

const config = loadConfig({
  environment: { TWOFOLD_DATA: '/data' },
  flags: new Map([['mode', 'dev']]),
});

const status: HsmStatus = {
  ready: true,
  state: 'ok',
  detail: '',
  tokenEpoch: 1,
  token: { serial: '17', label: 'own', model: 'M', manufacturer: 'Maker', firmware: '1' },
  custody: 'extractableByPinHolder',
  rootAttacks: null,
  capabilities: [
    { name: 'ecdh:P-256', available: true, reason: '' },
    { name: 'x25519', available: false, reason: 'The token lacks CKM_EC_MONTGOMERY_KEY_PAIR_GEN.' },
  ],
};

const service: RunningService = {
  url: 'http://127.0.0.1:1',
  adminUrl: 'https://127.0.0.2:2',
  metricsUrl: 'http://127.0.0.1:3',
  hsm: status,
  suites: [
    { id: 'MLKEM768-P256', reason: null },
    { id: 'MLKEM768-X25519', reason: 'The token lacks X25519.' },
    { id: 'Ed25519', reason: 'The token lacks Ed25519.' },
    { id: 'DHKEM-X25519', reason: 'The token lacks X25519.' },
  ],
  selfTests: 20,
  instance: 'i',
};

const valueOf = (text: string, name: string): string[] =>
  [...text.matchAll(new RegExp(`^${name} +(.*)$`, 'gmu'))].map(([, value = '']) => value);

describe('the text after a start', () => {
  const text = welcome(config, service);

  it('says what the token can and cannot, and which suites are missing for it', () => {
    expect(valueOf(text, 'can')).toEqual(['ecdh:P-256']);
    expect(valueOf(text, 'cannot')).toEqual([
      'x25519: The token lacks CKM_EC_MONTGOMERY_KEY_PAIR_GEN.',
    ]);
    expect(valueOf(text, 'suites')[0]).toMatch(/^1 of 4 /);
    expect(valueOf(text, 'without')).toEqual([
      'MLKEM768-X25519, DHKEM-X25519: The token lacks X25519.',
      'Ed25519: The token lacks Ed25519.',
    ]);
    expect(valueOf(text, 'root')).toEqual(['extractableByPinHolder']);
  });

  it('says where every listener answers', () => {
    expect(text).toContain('is ready at http://127.0.0.1:1\n');
    expect(valueOf(text, 'admin')).toEqual(['https://127.0.0.2:2/v1/admin']);
    expect(valueOf(text, 'metrics')).toEqual(['http://127.0.0.1:3/metrics']);
    expect(valueOf(text, 'status')).toEqual(['http://127.0.0.1:3/']);
    const main = welcome(config, { ...service, adminUrl: null });
    expect(valueOf(main, 'admin')).toEqual([]);
  });
});
