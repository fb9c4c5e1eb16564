/** Export over HTTP: what was made to leave leaves, sealed and approved, and nothing else does; it is shown for ever. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { describeRecipient, openExported, recipientOf } from '../../src/client/export-opening.ts';
import type { RecipientKeys } from '../../src/client/export-opening.ts';
import { OpensslKeys, pqPem } from '../client/openssl-keys.ts';
import { openService } from './service.ts';
import type { CallInit, Called, Service } from './service.ts';

let service: Service;
let openssl: OpensslKeys;
let keys: RecipientKeys;
let recipient: ReturnType<typeof describeRecipient>;

async function as(
  subject: string,
  method: string,
  path: string,
  json?: object,
  headers: CallInit['headers'] = {},
): Promise<Called> {
  const authorization = `Bearer ${await service.token('admin', 3600, subject)}`;
  const init = json === undefined ? {} : { json };
  return service.call(null, method, path, { ...init, headers: { authorization, ...headers } });
}

beforeAll(async () => {
  service = await openService();
  openssl = new OpensslKeys();
  keys = {
    mlKem: createPrivateKey(pqPem('ml-kem-768').privateKey),
    classical: createPrivateKey(openssl.text('p256.pem')),
  };
  recipient = describeRecipient(recipientOf(keys));
}, 60_000);
afterAll(async () => {
  openssl.remove();
  await service.stop();
});

const bodyFor = ({ suite, publicKey }: typeof recipient, version = 1) => ({
  version,
  recipient: { suite, publicKey },
});
const make = async (name: string, suite: string, more: object = { exportable: true }) =>
  (await as('founder', 'POST', '/v1/admin/keys', { name, suite, ...more })).status;
const code = ({ json }: Called) => json['code'];
const exported = (name: string, json: object, headers = {}, query = '') =>
  as('alice', 'POST', `/v1/admin/keys/${name}/export${query}`, json, headers);

/** Approved by two others. */
async function approvedExport(name: string, json: object): Promise<[Called, string]> {
  const asked = await exported(name, json);
  expect([asked.status, code(asked)]).toEqual([202, undefined]);
  const id = String(asked.json['id']);
  const under = { 'twofold-approval': id, 'idempotency-key': id };
  await as('bob', 'POST', `/v1/admin/approvals/${id}/approve`);
  expect(code(await exported(name, json, under))).toBe('approval_pending');
  await as('carol', 'POST', `/v1/admin/approvals/${id}/approve`);
  return [await exported(name, json, under), id];
}

const MESSAGE = Buffer.from('signed outside');
const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

describe('an export', () => {
  it('is refused where no rule asks for approval', async () => {
    expect(await make('early', 'ML-DSA-44')).toBe(201);
    const refused = await exported('early', bodyFor(recipient));
    expect([refused.status, code(refused)]).toEqual([409, 'approval_rule_missing']);
    const rule = { guards: ['keys.export'], needed: 2, mayLockOut: true };
    await as('founder', 'PUT', '/v1/admin/approval-rules/exports', rule);
  });

  it.each([
    ['ML-DSA-65', 'MLKEM768-P256'],
    ['SLH-DSA-SHA2-128f', 'MLKEM768-X25519'],
    ['ML-KEM-1024', 'MLKEM1024-P384'],
  ])(
    'of %s to a key of %s opens with OpenSSL’s keys, and is shown and recorded for ever',
    async (suite, to) => {
      const theirs: RecipientKeys =
        to === 'MLKEM768-P256'
          ? keys
          : to === 'MLKEM768-X25519'
            ? { mlKem: keys.mlKem, classical: generateKeyPairSync('x25519').privateKey }
            : {
                mlKem: generateKeyPairSync('ml-kem-1024').privateKey,
                classical: generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
              };
      const described = describeRecipient(recipientOf(theirs));
      expect(described.suite).toBe(to);
      const name = suite.toLowerCase();
      expect(await make(name, suite)).toBe(201);
      const body = bodyFor(described);
      const [answer, approval] = await approvedExport(name, body);
      expect([answer.status, code(answer)]).toEqual([200, undefined]);
      const { key, content } = await openExported(answer.json, theirs);
      expect(key).toBe(name);
      const opened = createPrivateKey(Buffer.from(content.reveal()));

      const { json: stated } = await as('alice', 'GET', `/v1/keys/${name}/public-key?format=raw`);
      const publicKey = createPublicKey(opened);
      expect(b64(publicKey.export({ format: 'raw-public' }))).toBe(stated['raw']);
      if (!suite.startsWith('ML-KEM')) {
        const signature = b64(sign(null, MESSAGE, opened));
        const path = `/v1/keys/${name}/verify`;
        const verified = await as('alice', 'POST', path, { message: b64(MESSAGE), signature });
        expect(verified.json['valid']).toBe(true);
        const signed = await as('alice', 'POST', `/v1/keys/${name}/sign`, {
          message: b64(MESSAGE),
        });
        const made = Buffer.from(String(signed.json['signature']), 'base64');
        expect(verify(null, MESSAGE, publicKey, made)).toBe(true);
      }

      const { json: shown } = await as('alice', 'GET', `/v1/keys/${name}`);
      const { fingerprint } = described;
      const record = {
        version: 1,
        at: expect.stringMatching(/^\d{4}-.*Z$/u) as unknown,
        recipient: { suite: to, fingerprint },
        by: { issuer: expect.any(String) as unknown, subject: 'alice' },
        approval,
      };
      expect(shown).toMatchObject({ exportable: true, exports: [record] });
      const id = answer.headers.get('twofold-audit-id') ?? '';
      const entry = await as('alice', 'GET', `/v1/audit/entries/${id}`);
      expect(entry.json).toMatchObject({
        operation: 'keys.export',
        outcome: 'ok',
        approvalId: approval,
        detail: { recipient: fingerprint, recipientSuite: to },
      });
      const events = await as('alice', 'GET', '/v1/admin/events?type=kms.twofold.key.exported');
      expect(JSON.stringify(events.json)).toContain(fingerprint);

      // What was lost on its way is answered again; the approval is used up.
      const under = { 'twofold-approval': approval };
      const again = await exported(name, body, { ...under, 'idempotency-key': approval });
      expect(again.json).toEqual(answer.json);
      expect(code(await exported(name, body, under))).toBe('approval_used');
      // A rotation and a destruction leave it there.
      await as('alice', 'POST', `/v1/admin/keys/${name}/rotate`, {});
      expect((await as('alice', 'GET', `/v1/keys/${name}`)).json['exports']).toEqual(
        shown['exports'],
      );
    },
    60_000,
  );

  it('opens for its recipient alone, and only unaltered', async () => {
    expect(await make('bound', 'ML-DSA-44')).toBe(201);
    const [{ json }] = await approvedExport('bound', bodyFor(recipient));
    const refusal = async (altered: object, by = keys) => {
      const answer = { ...json, ...altered };
      const error: unknown = await openExported(answer, by).catch((reason: unknown) => reason);
      return (error as { code?: string }).code;
    };
    const other = {
      ...keys,
      classical: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    };
    expect(await refusal({}, other)).toBe('key_unfit');
    expect(await refusal({ key: 'bound\u001b[2J' })).toBe('unexpected_answer');
    expect(await refusal({ keyId: `${String(json['keyId'])}\n` })).toBe('unexpected_answer');
    expect(await refusal({ keyVersion: 2 })).toBe('decryption_failed');
    expect(await refusal({ namespace: 'other' })).toBe('decryption_failed');
    expect(await refusal({ suite: 'ML-DSA-65' })).toBe('decryption_failed');
    expect(await refusal({ publicKey: b64(Buffer.alloc(1312)) })).toBe('decryption_failed');
    const envelope = Buffer.from(String(json['envelope']), 'base64');
    for (const at of [0, 1100, 1160, envelope.length - 1]) {
      const damaged = envelope.map((byte, index) => (index === at ? byte ^ 1 : byte));
      expect(await refusal({ envelope: b64(damaged) })).toBe('decryption_failed');
    }
    expect(await refusal({ envelope: null })).toBe('unexpected_answer');
  });

  it('is tried by a dry run, which seals nothing and is shown nowhere', async () => {
    expect(await make('tried', 'ML-DSA-44')).toBe(201);
    const tried = await exported('tried', bodyFor(recipient), {}, '?dryRun=true');
    expect(tried.json).toMatchObject({
      dryRun: true,
      envelope: null,
      recipient: { suite: recipient.suite },
    });
    expect(tried.headers.get('twofold-approval-required')).toBe('exports');
    expect((await as('alice', 'GET', '/v1/keys/tried')).json['exports']).toEqual([]);
  });

  it('under an approval of another recipient or version is refused', async () => {
    expect(await make('mixed', 'ML-DSA-44')).toBe(201);
    const asked = await exported('mixed', bodyFor(recipient));
    const id = String(asked.json['id']);
    for (const who of ['bob', 'carol']) await as(who, 'POST', `/v1/admin/approvals/${id}/approve`);
    const other = describeRecipient(
      recipientOf({ ...keys, classical: generateKeyPairSync('x25519').privateKey }),
    );
    const under = { 'twofold-approval': id };
    expect(code(await exported('mixed', bodyFor(other), under))).toBe('approval_mismatch');
    expect(code(await exported('mixed', bodyFor(recipient, 2), under))).toBe('approval_mismatch');
    expect((await exported('mixed', bodyFor(recipient), under)).status).toBe(200);
  });
});

describe('what does not leave', () => {
  it.each([
    'A256GCM',
    'HS256',
    'MLKEM768-P256',
    'MLDSA65-ECDSA-P256-SHA512',
    'ECDSA-P256-SHA256',
    'Ed25519',
    'Falcon-512',
  ])('a key of %s, which cannot be made exportable', async (suite) => {
    const json = { name: 'never', suite, exportable: true };
    const refused = await as('founder', 'POST', '/v1/admin/keys', json);
    expect([refused.status, code(refused)]).toEqual([409, 'export_not_offered']);
  });

  it('one that was not made to, that is of another suite by now, suspended, or to be destroyed', async () => {
    const refusal = async (name: string, json: object = bodyFor(recipient)) =>
      code(await exported(name, json, {}, '?dryRun=true'));
    await make('kept', 'ML-DSA-44', {});
    expect(await refusal('kept')).toBe('key_not_exportable');
    await make('moved', 'ML-DSA-44');
    await as('founder', 'POST', '/v1/admin/keys/moved/rotate', {
      suite: 'MLDSA44-ECDSA-P256-SHA256',
    });
    expect(await refusal('moved', bodyFor(recipient, 2))).toBe('export_not_offered');
    expect(await refusal('moved', bodyFor(recipient, 3))).toBe('version_not_found');
    await as('founder', 'POST', '/v1/admin/keys/moved/suspend', { reason: 'r' });
    expect(await refusal('moved')).toBe('version_not_usable');
    expect(await refusal('absent')).toBe('key_not_found');
  });

  it('to what is no hybrid key', async () => {
    await make('aimed', 'ML-DSA-44');
    const to = async (suite: string, publicKey: string) =>
      code(
        await exported(
          'aimed',
          { version: 1, recipient: { suite, publicKey } },
          {},
          '?dryRun=true',
        ),
      );
    expect(await to('ML-KEM-768', recipient.publicKey)).toBe('invalid_value');
    expect(await to('ECDSA-P256-SHA256', recipient.publicKey)).toBe('invalid_value');
    expect(await to('nothing', recipient.publicKey)).toBe('unknown_suite');
    expect(await to('MLKEM1024-P384', recipient.publicKey)).toBe('invalid_value');
    const off = Buffer.from(recipient.publicKey, 'base64');
    off[off.length - 1] = (off.at(-1) ?? 0) ^ 1;
    expect(await to('MLKEM768-P256', b64(off))).toBe('invalid_value');
  });

  it('for whoever may not', async () => {
    const json = bodyFor(recipient);
    for (const role of ['user', 'operator', 'auditor']) {
      const init = { json };
      expect((await service.call(role, 'POST', '/v1/admin/keys/early/export', init)).status).toBe(
        403,
      );
    }
  });
});
