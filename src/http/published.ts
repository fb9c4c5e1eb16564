/**
 * Public keys without a token. What is answered is made once and kept until any key changes; the
 * lookups of those who ask are bounded by the gate and by `keyring/published.ts`.
 */
import { hash } from 'node:crypto';

import { publishedJwks, publishedPem, MAX_AGE } from '../contract/published.ts';
import { TwofoldError } from '../errors.ts';
import { isPublished, publicKeyPem, publicKeySet } from './public-key.ts';
import { renderPublicJson } from './render.ts';
import { Document, publicRoute } from './route.ts';
import type { Engine } from '../crypto/engine.ts';
import type { KeyView } from '../keyring/operations.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { PublicReply, PublicRoute } from './route.ts';

type Dependencies = Pick<HttpDependencies, 'published' | 'engine' | 'readiness' | 'governance'>;

interface Kept {
  readonly document: Document;
  readonly etag: string;
}

/** What is asked for; `version` is null for the primary. */
interface Wanted {
  readonly namespace: string;
  readonly key: string;
  readonly form: 'jwks' | 'pem';
  readonly version: number | null;
}

/** Each at most some tens of kB. */
const MAX_KEPT = 1_000;
const ETAG_LENGTH = 22;

function made(mediaType: string, text: string): Kept {
  const digest = hash('sha256', text, 'base64url').slice(0, ETAG_LENGTH);
  return { document: new Document(mediaType, text), etag: `"${digest}"` };
}

const absent = () => new TwofoldError('key_not_found');

function jwksOf(engine: Engine, view: KeyView): Kept {
  return made('application/jwk-set+json', renderPublicJson({ keys: publicKeySet(engine, view) }));
}

/** Only versions that the key set would name: others are as absent as keys that are not published. */
function pemOf(engine: Engine, view: KeyView, wanted: number | null): Kept {
  const number = wanted ?? view.key.primary;
  const version = view.versions.find((each) => each.version === number);
  const isShown = version !== undefined && isPublished(view.key, version);
  const pem = isShown ? publicKeyPem(engine, version) : null;
  if (pem === null) throw absent();
  return made('application/x-pem-file', pem);
}

class PublishedAnswers {
  readonly #deps: Dependencies;
  readonly #kept = new Map<string, Kept>();
  #generation = 0;

  constructor(deps: Dependencies) {
    this.#deps = deps;
  }

  async reply(wanted: Wanted, ifNoneMatch: string | undefined): Promise<PublicReply> {
    this.#requireDatabase();
    const { namespaces } = this.#deps.governance;
    if ((await namespaces.standing(wanted.namespace)) !== 'active') throw absent();
    const { document, etag } = await this.#current(wanted);
    const headers = { 'Cache-Control': `public, max-age=${String(MAX_AGE)}`, ETag: etag };
    if (!matches(ifNoneMatch, etag)) return { status: 200, headers, body: document };
    const length = { 'Content-Length': String(Buffer.byteLength(document.text)) };
    const body = new Document(document.mediaType, '');
    return { status: 304, headers: { ...headers, ...length }, body };
  }

  /** Without the database nobody tells this instance of a revocation. */
  #requireDatabase(): void {
    const { checks } = this.#deps.readiness();
    const isAway = checks.some(({ name, ready }) => name === 'database' && !ready);
    if (isAway) throw new TwofoldError('database_unavailable');
  }

  async #current(wanted: Wanted): Promise<Kept> {
    const { published, engine } = this.#deps;
    if (this.#generation !== published.generation) this.#kept.clear();
    this.#generation = published.generation;
    const { namespace, key, form, version } = wanted;
    const slot = JSON.stringify([namespace, key, form, version]);
    const known = this.#kept.get(slot);
    if (known !== undefined) return known;
    const { view, generation } = await published.find(namespace, key);
    if (view === null) throw absent();
    const kept = form === 'jwks' ? jwksOf(engine, view) : pemOf(engine, view, version);
    // What was kept under another generation goes as a whole, before anything of it is looked for.
    if (generation === published.generation && generation === this.#generation) {
      this.#keep(slot, kept);
    }
    return kept;
  }

  #keep(slot: string, kept: Kept): void {
    const [oldest] = this.#kept.keys();
    if (this.#kept.size >= MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
    this.#kept.set(slot, kept);
  }
}

/** RFC 9110 section 13.1.2: any of the listed tags, compared weakly, or `*`. */
function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const tags = ifNoneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes(etag) || tags.includes('*');
}

export function publishedRoutes(deps: Dependencies): readonly PublicRoute[] {
  const answers = new PublishedAnswers(deps);
  return [
    publicRoute(publishedJwks, ({ params, ifNoneMatch }) =>
      answers.reply({ ...params, form: 'jwks', version: null }, ifNoneMatch),
    ),
    publicRoute(publishedPem, ({ params, query, ifNoneMatch }) =>
      answers.reply({ ...params, form: 'pem', version: query.version ?? null }, ifNoneMatch),
    ),
  ];
}
