import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';
import { OPERATIONS } from '../../src/access/grant.ts';
import { openApiDocument } from '../../src/contract/openapi.ts';
import { errorsOf } from '../../src/contract/route.ts';
import {
  ANONYMOUS_PATHS,
  ASKED_BESIDES,
  MONITORING_PATHS,
  MONITORING_ROUTES,
  ROUTES,
  UNROUTED,
} from '../../src/contract/routes.ts';
import { SENSITIVE_FIELDS } from '../../src/contract/sensitive.ts';
import { toYaml } from '../../src/contract/yaml.ts';
import { ERRORS } from '../../src/errors.ts';

const root = join(import.meta.dirname, '../..');
const committed = () => readFileSync(join(root, 'openapi.yaml'), 'utf8');

describe('the table of routes', () => {
  it('has each id and each method and path once', () => {
    const ids = ROUTES.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const places = ROUTES.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(places).size).toBe(places.length);
  });

  it('puts what changes state, and what only its callers read, under /v1/admin', () => {
    for (const { plane, path } of ROUTES) {
      expect({ path, admin: plane === 'admin' }).toEqual({
        path,
        admin: path.startsWith('/v1/admin/'),
      });
    }
  });

  it('lets the listed few be anonymous, and no other', () => {
    const open = ROUTES.filter(({ plane }) => plane === 'public').map(({ path }) => path);
    expect(open.toSorted()).toEqual(ANONYMOUS_PATHS.toSorted());
    const without = ROUTES.filter(({ operation }) => operation === null).map(({ path }) => path);
    expect(without.toSorted()).toEqual(ANONYMOUS_PATHS.toSorted());
  });

  it('keeps what the metrics listener serves to that listener', () => {
    expect(MONITORING_PATHS).toEqual(['/']);
    expect(MONITORING_ROUTES.map(({ plane, operation }) => [plane, operation])).toEqual([
      ['monitoring', null],
    ]);
    expect(ROUTES.filter(({ plane }) => plane === 'monitoring')).toEqual([]);
    const ids = [...ROUTES, ...MONITORING_ROUTES].map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('names operations that policies know, and uses all of them', () => {
    const named = new Set(ROUTES.map(({ operation }) => operation).filter((name) => name !== null));
    expect([...named, ...ASKED_BESIDES, ...UNROUTED].toSorted()).toEqual(OPERATIONS.toSorted());
  });

  it('takes a dry run on every change', () => {
    // Items of a job change nothing but its progress, and cannot be answered without being worked on.
    const changes = ROUTES.filter(
      ({ plane, method, id }) => plane === 'admin' && method !== 'GET' && id !== 'sendRewrapItems',
    );
    for (const route of changes) {
      expect({ id: route.id, members: Object.keys(route.query.shape as object) }).toEqual({
        id: route.id,
        members: ['dryRun'],
      });
    }
  });

  it('refuses unknown members everywhere', () => {
    for (const { id, body, query, headers, params } of ROUTES) {
      for (const schema of [query, headers, params, body].filter((part) => part !== null)) {
        const { error } = schema.safeParse({ 'no such member': 'x' });
        const codes = error?.issues.map(({ code }) => code) ?? [];
        expect({ id, codes }).toEqual({ id, codes: expect.arrayContaining(['unrecognized_keys']) });
      }
    }
  });

  it('names codes that exist', () => {
    for (const route of ROUTES) {
      for (const code of errorsOf(route)) expect(code in ERRORS).toBe(true);
    }
  });
});

describe('the sensitive fields', () => {
  it('are those that the schemas mark', () => {
    expect([...SENSITIVE_FIELDS].toSorted()).toEqual([
      'authorization',
      'jws',
      'mac',
      'message',
      'payload',
      'plaintext',
      'random',
      'sharedSecret',
      'token',
    ]);
  });
});

interface Said {
  readonly operationId: string;
  readonly requestBody?: { readonly required?: boolean };
  readonly responses: Readonly<
    Record<string, { readonly content?: object; readonly 'x-codes'?: readonly string[] }>
  >;
}
type Paths = Readonly<Record<string, Readonly<Record<string, Said>>>>;

describe('openapi.yaml', () => {
  it('says the same routes', () => {
    const { paths } = parse(committed()) as { paths: Record<string, object> };
    const said = Object.entries(paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const served = [...ROUTES, ...MONITORING_ROUTES].map(({ method, path }) => `${method} ${path}`);
    expect(said.toSorted()).toEqual(served.toSorted());
  });

  it('is current', () => {
    const node = join(root, 'node_modules/.bin/node');
    const printed = execFileSync(node, [join(root, 'src/http/openapi-file.ts')], {
      encoding: 'utf8',
      maxBuffer: 1 << 24,
    });
    expect(printed === committed()).toBe(true);
  });

  it('carries planes, sensitive marks and codes; answers are open, requests are not', () => {
    const text = committed();
    const { components, paths } = parse(text) as {
      components: { schemas: Record<string, Record<string, unknown>> };
      paths: Record<string, Record<string, Record<string, unknown>>>;
    };
    const { schemas } = components;
    expect(schemas['WrapRequest']).toMatchObject({
      additionalProperties: false,
      properties: { plaintext: { 'x-sensitive': true, contentEncoding: 'base64' } },
    });
    expect(schemas['WrapAnswer']).not.toHaveProperty('additionalProperties');
    expect(paths['/v1/admin/keys']?.['post']?.['x-plane']).toBe('admin');
    expect(text).toContain('label.{name}');
  });

  it('says which bodies may be left out, and every status that is answered', () => {
    const { paths } = parse(committed()) as { paths: Paths };
    const operations = Object.values(paths).flatMap((path) => Object.values(path));
    const optional = operations.filter(({ requestBody }) => requestBody?.required === false);
    expect(optional.map(({ operationId }) => operationId).toSorted()).toEqual([
      'createRewrapJob',
      'encapsulate',
      'finishOperation',
      'putAlias',
      'putLimits',
      'putRotationPolicy',
      'rotateKey',
      'takeBackup',
      'updateKey',
    ]);
    const answer = (path: string, method: string, status: string) =>
      paths[path]?.[method]?.responses[status];
    const types = Object.keys(answer('/readyz', 'get', '503')?.content ?? {});
    expect(types).toEqual(['application/json', 'application/problem+json']);
    const create = (status: string) => answer('/v1/admin/keys', 'post', status);
    expect(create('200')?.content).toHaveProperty(['application/json']);
    expect(create('409')?.['x-codes']).toContain('conflict');
    expect(answer('/v1/keys/{key}/wrap', 'post', '503')?.['x-codes']).toEqual(
      expect.arrayContaining(['hsm_full', 'storage_full']),
    );
  });

  it('gives every reference a target', () => {
    const document = parse(committed()) as { components: { schemas: object } };
    const references = committed().matchAll(/\$ref: "#\/components\/schemas\/([^"]+)"/g);
    const names = new Set([...references].map(([, name]) => name ?? ''));
    expect(names.size).toBeGreaterThan(20);
    for (const name of names) expect(document.components.schemas).toHaveProperty([name]);
  });
});

describe('toYaml', () => {
  it('is read back as it was, by a YAML parser', () => {
    const document = JSON.parse(JSON.stringify(openApiDocument({}))) as unknown;
    expect(parse(toYaml(document as object))).toEqual(document);
  });

  it('quotes what YAML takes for something else', () => {
    const hard = {
      no: 'yes',
      on: ['', null, true, 1.5, [], {}, [[1], { a: [] }]],
      'a: b': '# c',
      200: '\n\t"',
      '- x': { '?': '!!js' },
    };
    expect(parse(toYaml(hard))).toEqual(hard);
    expect(parse(toYaml(hard), { version: '1.1' })).toEqual(hard);
  });
});
