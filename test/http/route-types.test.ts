/** What must not compile; `tsc` fails on an expectation that is not met. */
import { describe, expect, it } from '@jest/globals';
import { defineRoute } from '../../src/contract/route.ts';
import { health } from '../../src/contract/system.ts';
import { encapsulate } from '../../src/contract/kem.ts';
import { wrap } from '../../src/contract/wrap.ts';
import type { KeyUse } from '../../src/keyring/operations.ts';
import { Admission } from '../../src/http/admission.ts';
import { createApp } from '../../src/http/app.ts';
import { Pipeline } from '../../src/http/pipeline.ts';
import { DEFAULT_LIMITS } from '../../src/http/dependencies.ts';
import type { HttpDependencies } from '../../src/http/dependencies.ts';
import { publicRoute, route } from '../../src/http/route.ts';

const used = { key: 'k', keyId: 'i', keyVersion: 1, suite: 's' };
const body = { ciphertext: new Uint8Array(0), ...used, refreshAfter: null };

describe('a route does not compile', () => {
  it('without its parts', () => {
    const parts = { id: 'x', method: 'GET', path: '/x', summary: '' } as const;
    // @ts-expect-error -- no schemas, plane or operation
    defineRoute(parts);
    // @ts-expect-error -- no operation
    defineRoute({ ...parts, plane: 'use', response: wrap.response, errors: [] });
    // @ts-expect-error -- no plane
    defineRoute({ ...parts, operation: 'wrap', response: wrap.response, errors: [] });
    // @ts-expect-error -- no handler
    route(wrap, {});
    expect(route(wrap, { handle: async () => ({ body }) }).contract).toBe(wrap);
  });

  it('on the wrong side of authentication', () => {
    // @ts-expect-error -- a public contract has no grant
    route(health, { handle: async () => ({ body: { status: 'ok' } }) });
    // @ts-expect-error -- a guarded contract is not public
    publicRoute(wrap, () => ({ status: 200, body: {} }));
    expect(publicRoute(health, () => ({ status: 200, body: { status: 'ok' } }))).toBeDefined();
  });

  it('with an operation that its grant is not for', () => {
    const use = {} as KeyUse;
    const made = route(encapsulate, {
      handle: async ({ grant }) => {
        // @ts-expect-error -- Grant<'encapsulate'> is no Grant<'unwrap'>
        await use.unwrap(grant, { ciphertext: new Uint8Array(0) });
        return { body: { sharedSecret: '', encapsulation: '', ...used } };
      },
    });
    expect(made.contract.operation).toBe('encapsulate');
  });

  it('with an answer that its contract does not have', () => {
    // @ts-expect-error -- `ciphertext` is missing
    const made = route(wrap, { handle: async () => ({ body: { ...used, refreshAfter: null } }) });
    expect(made.contract.id).toBe('wrap');
  });
});

describe('an app does not start', () => {
  const parts = {
    pipeline: new Pipeline({} as HttpDependencies, DEFAULT_LIMITS),
    admission: new Admission(),
    report: () => undefined,
    draining: () => false,
    parting: () => false,
  };
  const handle = async () => ({ body });

  it('with a route that was not made by route()', () => {
    const forged = { contract: wrap, hasFacts: false, facts: () => [], handle };
    expect(() => createApp([forged], ['use'], parts)).toThrow('is not sound');
    expect(() => createApp([route(wrap, { handle })], ['use'], parts)).not.toThrow();
  });

  it('with a plane that is not that of its path', () => {
    const admin = { ...wrap, plane: 'admin' } as const;
    expect(() => createApp([route(admin, { handle })], ['admin'], parts)).toThrow('is not sound');
    const moved = { ...wrap, path: '/v1/admin/wrap' } as const;
    expect(() => createApp([route(moved, { handle })], ['use'], parts)).toThrow('is not sound');
  });

  it('with an anonymous route that is not listed by name', () => {
    const open = publicRoute({ ...health, path: '/v1/open' }, () => ({ status: 200, body: {} }));
    expect(() => createApp([open], ['public'], parts)).toThrow('is not sound');
    const shown = publicRoute({ ...health, plane: 'monitoring' }, () => ({
      status: 200,
      body: {},
    }));
    expect(() => createApp([shown], ['monitoring'], parts)).toThrow('is not sound');
    const moved = publicRoute({ ...health, path: '/' }, () => ({ status: 200, body: {} }));
    expect(() => createApp([moved], ['public'], parts)).toThrow('is not sound');
  });
});
