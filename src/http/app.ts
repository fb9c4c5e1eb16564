/**
 * The application of one listener. Routing is by Express, case-sensitive and without redirects, but for
 * the frequent paths (`direct-routes.ts`); everything else of a request is read and answered by our own
 * pipeline.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

import express from 'express';
import type { NextFunction, Request, Response, Router } from 'express';

import { isAnonymous } from '../contract/route.ts';
import { ANONYMOUS_PATHS, MONITORING_PATHS } from '../contract/routes.ts';
import { TwofoldError } from '../errors.ts';
import type { Admission } from './admission.ts';
import { DirectRoutes } from './direct-routes.ts';
import { Exchange } from './exchange.ts';
import type { Answer, Surroundings } from './exchange.ts';
import { declaredHeaders, readHeaders, readParams, readQuery } from './head.ts';
import { JSON_TYPE, preferredOf } from './negotiate.ts';
import { renderJson } from './render.ts';
import { Document, isMade } from './route.ts';
import type { AnswerForm, Method, Plane } from '../contract/route.ts';
import type { Pipeline } from './pipeline.ts';
import type { GuardedRoute, PathParams, PublicReply, PublicRoute } from './route.ts';

export type AnyRoute = GuardedRoute | PublicRoute;
type Handle = (
  request: IncomingMessage,
  response: ServerResponse,
  params: PathParams,
) => Promise<void>;

export interface AppParts extends Surroundings {
  readonly pipeline: Pipeline;
  /** Of uses: changes of keys, of which a suspension is one, wait for none of them. */
  readonly admission: Admission;
}

const EXPRESS_METHODS: Readonly<Record<Method, 'get' | 'post' | 'put' | 'patch' | 'delete'>> = {
  GET: 'get',
  POST: 'post',
  PUT: 'put',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** Wiring that promises P3 and P4 stand on; a mistake in it ends the start. */
function checkRoute({ contract, ...route }: AnyRoute, made: boolean): void {
  const underAdmin = contract.path.startsWith('/v1/admin/');
  const anonymous = ANONYMOUS_PATHS.includes(contract.path);
  const sound =
    made &&
    'handle' in route &&
    (contract.plane === 'public') === anonymous &&
    (contract.plane === 'monitoring') === MONITORING_PATHS.includes(contract.path) &&
    (contract.plane === 'admin') === underAdmin;
  if (!sound) throw new TypeError(`route ${contract.id} is not sound`);
}

const isPublic = (route: AnyRoute): route is PublicRoute => isAnonymous(route.contract);

function publicAnswer({ status, body, headers }: PublicReply): Answer {
  if (body instanceof Document) {
    const all = { 'Content-Type': body.mediaType, ...headers };
    return { status, headers: all, body: { bytes: body.text, secret: false } };
  }
  return { status, headers: { 'Content-Type': JSON_TYPE, ...headers }, body: renderJson(body) };
}

/** A client of a route with one form gets that form, whatever it says that it accepts. */
function formOf({ contract }: PublicRoute, accept: string | undefined): AnswerForm {
  const [only, ...others] = contract.gives;
  return only !== undefined && others.length === 0 ? only : preferredOf(contract.gives, accept);
}

const expressPath = (path: string, spans: string | null): string =>
  path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => (name === spans ? `*${name}` : `:${name}`));

/** Express gives what spans segments as their list; one that hides a slash is made to fit nothing. */
const spanned = (params: Readonly<Record<string, string | string[]>>): PathParams =>
  Object.fromEntries(
    Object.entries(params).map(([name, value]) => {
      if (!Array.isArray(value)) return [name, value];
      return [name, value.map((part) => (part.includes('/') ? '' : part)).join('/')];
    }),
  );

class AppBuilder {
  readonly #parts: AppParts;
  readonly #router: Router;
  readonly #direct = new DirectRoutes<Handle>();

  constructor(parts: AppParts) {
    this.#parts = parts;
    this.#router = express.Router({ caseSensitive: true, strict: true });
  }

  build(routes: readonly AnyRoute[]): RequestListener {
    const app = express();
    app.disable('x-powered-by').disable('etag').set('query parser', false);
    // Express tries paths in turn: those that are asked most come first. No two match one path.
    const often = (path: string) => (path.startsWith('/v1/keys/{key}/') ? 0 : 1);
    const groups = [...Map.groupBy(routes, ({ contract }) => contract.path)];
    for (const [path, group] of groups.toSorted(([a], [b]) => often(a) - often(b))) {
      this.#mount(path, group);
    }
    app.use(this.#router);
    app.use((request, response) => this.#refuse(request, response, 'route_not_found'));
    app.use((_error: unknown, request: Request, response: Response, next: NextFunction) => {
      // Express itself fails on one thing only: a path that cannot be percent-decoded.
      if (response.headersSent) next();
      else void this.#refuse(request, response, 'malformed_request');
    });
    return (request, response) => {
      const found = this.#direct.find(request.method, request.url);
      if (found === null) {
        app(request, response);
        return;
      }
      // A handler answers every failure itself; one that cannot be answered cuts the connection.
      found.handle(request, response, { key: found.key }).catch(() => response.destroy());
    };
  }

  #mount(path: string, group: readonly AnyRoute[]): void {
    const spans = group[0]?.contract.spans ?? null;
    const mounted = this.#router.route(expressPath(path, spans));
    for (const route of group) {
      checkRoute(route, isMade(route));
      const handle = this.#handle(route);
      this.#direct.add(route.contract.method, path, handle);
      mounted[EXPRESS_METHODS[route.contract.method]]((request, response) =>
        handle(request, response, spanned(request.params)),
      );
    }
    const methods = group.map(({ contract }) => contract.method as string);
    const allow = [...methods, ...(methods.includes('GET') ? ['HEAD'] : [])].join(', ');
    mounted.all((request, response) =>
      this.#refuse(request, response, 'method_not_allowed', { Allow: allow }),
    );
  }

  #handle(route: AnyRoute): Handle {
    const { pipeline, admission, draining } = this.#parts;
    const serve = isPublic(route) ? this.#servePublic(route) : pipeline.server(route);
    return async (request, response, params) => {
      const exchange = new Exchange(request, response, route.contract, this.#parts);
      if (draining()) {
        await pipeline.refuse(exchange, new TwofoldError('shutting_down'));
        return;
      }
      const work = () => serve(exchange, params);
      if (route.contract.plane !== 'use') {
        await work();
        return;
      }
      const refused = await admission.run(request.socket, work);
      if (refused !== null) await pipeline.refuse(exchange, refused);
    };
  }

  #servePublic(route: PublicRoute) {
    const { pipeline } = this.#parts;
    return async (exchange: Exchange, given: PathParams): Promise<void> => {
      try {
        readHeaders(route.contract, declaredHeaders(exchange.request));
        const { url = '', headers } = exchange.request;
        const query = readQuery(route.contract, url) as Record<string, unknown>;
        const form = formOf(route, headers.accept);
        const params = readParams(route.contract, given) as Record<string, unknown>;
        const asked = { form, query, params, ifNoneMatch: headers['if-none-match'] };
        await exchange.send(publicAnswer(await pipeline.anonymous(exchange, route, asked)), null);
      } catch (error) {
        await pipeline.refuse(exchange, error);
      }
    };
  }

  #refuse(
    request: IncomingMessage,
    response: ServerResponse,
    code: 'route_not_found' | 'method_not_allowed' | 'malformed_request',
    headers?: Readonly<Record<string, string>>,
  ): Promise<void> {
    const exchange = new Exchange(request, response, null, this.#parts);
    return this.#parts.pipeline.refuse(exchange, new TwofoldError(code), headers);
  }
}

/**
 * The application of a listener that serves some planes.
 * @throws TypeError when a route was not made by `route()`, or its plane and path do not agree
 */
export function createApp(
  routes: readonly AnyRoute[],
  planes: readonly Plane[],
  parts: AppParts,
): RequestListener {
  const served = routes.filter(({ contract }) => planes.includes(contract.plane));
  return new AppBuilder(parts).build(served);
}
