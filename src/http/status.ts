/** The monitoring plane: the status page at `/` of the metrics listener, and the same as JSON. */
import { status } from '../contract/status.ts';
import type { Status } from '../contract/status.ts';
import { JSON_TYPE } from './negotiate.ts';
import { renderPublicJson } from './render.ts';
import { Document, publicRoute } from './route.ts';
import { CONTENT_SECURITY_POLICY, statusPage } from './status-page.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { PublicRoute } from './route.ts';

/** Whoever asks more often is given what was made last. */
const FRESH_MS = 1_000;

const HEADERS = {
  'Content-Security-Policy': CONTENT_SECURITY_POLICY,
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Frame-Options': 'DENY',
  Vary: 'Accept',
};

/** One reading of the status and what was rendered of it, each form once. */
class Reading {
  readonly #status: Status;
  readonly #made = performance.now();
  readonly #documents = new Map<string, Document>();

  constructor(status: Status) {
    this.#status = status;
  }

  get fresh(): boolean {
    return performance.now() - this.#made < FRESH_MS;
  }

  page(refresh: boolean): Document {
    const make = () => new Document('text/html; charset=utf-8', statusPage(this.#status, refresh));
    return this.#once(refresh ? 'page' : 'still page', make);
  }

  json(): Document {
    return this.#once('json', () => new Document(JSON_TYPE, renderPublicJson(this.#status)));
  }

  #once(name: string, make: () => Document): Document {
    const document = this.#documents.get(name) ?? make();
    this.#documents.set(name, document);
    return document;
  }
}

export function monitoringRoutes(deps: Pick<HttpDependencies, 'status'>): readonly PublicRoute[] {
  let last: Reading | undefined;
  let reading: Promise<Reading> | undefined;
  const read = () =>
    Promise.resolve()
      .then(() => deps.status())
      .then((status) => (last = new Reading(status)))
      .finally(() => (reading = undefined));
  return [
    publicRoute(status, async ({ form, query }) => {
      const shown = last?.fresh === true ? last : await (reading ??= read());
      const page = () => shown.page(query.refresh !== 'off');
      return {
        status: 200,
        headers: HEADERS,
        body: form === JSON_TYPE ? shown.json() : page(),
      };
    }),
  ];
}
