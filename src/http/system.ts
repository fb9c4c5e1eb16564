/** Health, readiness, the document of the API; the caller, suites, randomness. */
import {
  random,
  getSuite,
  health,
  listSuites,
  openapi,
  ready,
  whoami,
} from '../contract/system.ts';
import { NOT_OFFERED, SUITES } from '../crypto/suites.ts';
import { TwofoldError } from '../errors.ts';
import { Document, publicRoute, route } from './route.ts';
import { suiteResource } from './suite-resource.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { GuardedRoute, PublicRoute } from './route.ts';

export function publicRoutes(
  deps: Pick<HttpDependencies, 'readiness'>,
  document: Document['text'],
): readonly PublicRoute[] {
  return [
    publicRoute(health, () => ({ status: 200, body: { status: 'ok' } })),
    publicRoute(ready, () => {
      const state = deps.readiness();
      return { status: state.ready ? 200 : 503, body: state };
    }),
    publicRoute(openapi, () => ({ status: 200, body: new Document('application/yaml', document) })),
  ];
}

export function systemRoutes(
  deps: Pick<HttpDependencies, 'engine' | 'times' | 'token' | 'use'>,
): readonly GuardedRoute[] {
  const { engine, times, token, use } = deps;
  return [
    route(whoami, {
      handle: ({ grant, principal: { issuer, subject, method, roles, expiresAt } }) =>
        Promise.resolve({
          body: { issuer, subject, method, roles, expiresAt, namespace: grant.namespace },
        }),
    }),
    route(listSuites, {
      handle: () =>
        Promise.resolve({
          body: {
            items: Object.values(SUITES).map((suite) => suiteResource(suite, token, engine, times)),
            notOffered: NOT_OFFERED.map(({ name, reason }) => ({ name, reason })),
          },
        }),
    }),
    route(getSuite, {
      handle: ({ params }) => {
        const suite = SUITES[params.suite];
        if (suite === undefined) throw new TwofoldError('not_found');
        return Promise.resolve({ body: suiteResource(suite, token, engine, times) });
      },
    }),
    route(random, {
      handle: async ({ grant, body, own, notes }) => {
        notes.detail({ bytes: body.bytes });
        return { body: { random: own(await use.random(grant, body.bytes)) } };
      },
    }),
  ];
}
