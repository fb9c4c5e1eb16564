/** What is found without Express is what Express would find; everything unusual is left to it. */
import { describe, expect, it } from '@jest/globals';

import { ROUTES } from '../../src/contract/routes.ts';
import { DirectRoutes } from '../../src/http/direct-routes.ts';

const routes = new DirectRoutes<string>();
for (const { id, method, path } of ROUTES) routes.add(method, path, id);

const byWords = ROUTES.filter(({ path }) => /^\/v1\/keys\/\{key\}\/[a-z/-]+$/.test(path));
const others = ROUTES.filter((route) => !byWords.includes(route));

describe('direct routes', () => {
  it('are those whose path ends in words behind the key', () => {
    expect(byWords.length).toBeGreaterThan(10);
    for (const { id, method, path } of byWords) {
      for (const key of [
        'k',
        'a.b_c-d~e',
        '0190aaaa-0000-7000-8000-000000000001',
        'alias:x',
        '..',
      ]) {
        const url = path.replace('{key}', key);
        expect(routes.find(method, url)).toEqual({ handle: id, key });
        expect(routes.find(method, `${url}?version=1&x=/y`)).toEqual({ handle: id, key });
      }
    }
  });

  it('are no others', () => {
    for (const { method, path } of others) {
      expect(routes.find(method, path.replaceAll(/\{\w+\}/g, 'x'))).toBeNull();
    }
  });

  it.each([
    ['POST', '/v1/keys/a%2Fb/wrap'],
    ['POST', '/v1/keys/a%62/wrap'],
    ['POST', '/v1/keys/k/wrap/'],
    ['POST', '/v1/keys/k//wrap'],
    ['POST', '/v1/keys//wrap'],
    ['POST', '/v1/keys/k/Wrap'],
    ['POST', '/V1/keys/k/wrap'],
    ['POST', '/v1/keys/k/wrap#x'],
    ['POST', '/v1/keys/k/wrap/x'],
    ['POST', '/v1/keys/k/wrap;x'],
    ['POST', '/v1/keys/k\n/wrap'],
    ['POST', '//v1/keys/k/wrap'],
    ['POST', 'http://127.0.0.1/v1/keys/k/wrap'],
    ['GET', '/v1/keys/k/wrap'],
    ['HEAD', '/v1/keys/k/wrap'],
    ['POST', undefined],
    [undefined, '/v1/keys/k/wrap'],
  ])('leave %s %j to Express', (method, url) => {
    expect(routes.find(method, url)).toBeNull();
  });
});
