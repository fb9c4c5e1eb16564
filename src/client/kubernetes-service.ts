/**
 * What the Kubernetes KMS v2 provider asks of Twofold, over REST and several endpoints of it: for the agent
 * on a control-plane node.
 *
 * What was opened is not remembered here: only the service knows whether a permission still stands.
 */
import { origin as originSchema } from '../contract/answer.ts';
import { keyResource } from '../contract/keys.ts';
import { encodeBase64 } from '../crypto/base64.ts';
import { parseEnvelope } from '../crypto/envelope.ts';
import { SecretBytes } from '../crypto/secret.ts';
import { isUuid } from '../crypto/uuid.ts';
import { ERRORS, TwofoldError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import {
  parseRecord,
  providerLabel,
  requireProviderSuite,
  requireServing,
} from '../keyring/provider-record.ts';
import type { ProviderRecord } from '../keyring/provider-record.ts';
import type {
  KeyService,
  ProviderState,
  ProviderVersion,
  Refused,
  UnwrapRequest,
  Unwrapped,
  WrapRequest,
} from '../kubernetes/ports.ts';
import { NAME } from '../name.ts';
import { ClientError, LimitError } from './client-error.ts';
import { hedged } from './hedge.ts';
import type { HedgeTimes } from './hedge.ts';
import { JSON_TYPE, jsonOf } from './http-connection.ts';
import type { Answer, Call, HttpConnection } from './http-connection.ts';

const OCTETS = 'application/octet-stream';
const NO_AAD = encodeBase64(new Uint8Array(0));
/** An envelope or an opened seed; a description of a key has a few kilobytes. */
const LONGEST_ANSWER = 65_536;
/** How long an endpoint that was silent or failed is asked last. */
const SLOW_MS = 10_000;

/** An API server waits 3 s, and the provider 2.5 s: what failed is told before that. */
const TIMES: HedgeTimes = { hedgeMs: 400, budgetMs: 2_400, leastMs: 300, pauseMs: 250 };

/**
 * Of who the agent is: every endpoint would say so. That a token or certificate has expired each says by its own clock,
 * and one whose clock is ahead says it alone.
 */
const EVERYWHERE: ReadonlySet<ErrorCode> = new Set(['token_missing', 'token_denied']);

/** Of an endpoint that is behind the others, or cannot do what others can. */
const ELSEWHERE: ReadonlySet<ErrorCode> = new Set([
  'version_not_found',
  'zone_denied',
  'zone_lacks_material',
  'suite_unavailable_here',
]);

export interface KubernetesServiceOptions {
  /** The nearest one first; at least one. Their own retries are not used. */
  readonly endpoints: readonly HttpConnection[];
  readonly namespace: string;
  /** Name or UUID. */
  readonly key: string;
  /** Whose record at the key says which version is announced. */
  readonly cluster: string;
  /** The name of the provider in that record. */
  readonly provider: string;
  readonly times?: Partial<HedgeTimes>;
  /** Told of calls that are refused before the service is asked; nothing in it is the caller's but a UUID. */
  readonly onRefused?: (call: Readonly<Record<string, string>>) => void;
}

/** Of an answer that says that it was done, and is not what was asked for. */
class WrongAnswer extends ClientError {}

/**
 * Whether it says of one endpoint alone that nothing is served there, for as long as nobody mends that: its limit,
 * its HSM, its clock, its certificates of issuers, or that it answers something else. What every endpoint would say is not of it.
 */
function isOfPlace({ code, cause }: TwofoldError): boolean {
  if (cause instanceof LimitError || cause instanceof WrongAnswer) return true;
  const { status, retryable } = ERRORS[code];
  return !retryable && (status >= 500 || (status === 401 && !EVERYWHERE.has(code)));
}

/**
 * What is told where not all endpoints refuse, the latest refusal last. That another is away says less than what one that
 * is there does not do; but where that one alone cannot, who is away could, and may be back within the grace of Status.
 */
function toldLate(refusals: readonly TwofoldError[], away: TwofoldError): TwofoldError {
  const own = refusals.findLast(isOfPlace);
  if (own !== undefined) return own;
  const elsewhere = refusals.at(-1);
  if (elsewhere === undefined) return away;
  const said = ({ code, detail }: TwofoldError) => detail ?? ERRORS[code].title;
  const beside = `Another server says ${elsewhere.code}: ${said(elsewhere)}`;
  return new TwofoldError(away.code, `${said(away)} ${beside}`, { cause: away });
}

/** An endpoint, and until when it is asked last. */
interface Endpoint {
  readonly connection: HttpConnection;
  slowUntil: number;
}

export class KubernetesOverHttp implements KeyService {
  readonly #endpoints: readonly Endpoint[];
  readonly #headers: Readonly<Record<string, string>>;
  readonly #path: string;
  readonly #options: KubernetesServiceOptions;
  readonly #times: HedgeTimes;

  constructor(options: KubernetesServiceOptions) {
    const { endpoints, namespace, key, times } = options;
    this.#options = options;
    this.#endpoints = endpoints.map((connection) => ({ connection, slowUntil: -Infinity }));
    this.#headers = { [`${NAME.header}Namespace`]: namespace };
    this.#path = `/v1/keys/${encodeURIComponent(key)}`;
    this.#times = { ...TIMES, ...times };
  }

  /** Closes idle connections. */
  close(): void {
    for (const { connection } of this.#endpoints) connection.close();
  }

  state(signal: AbortSignal): Promise<ProviderState> {
    const call: Call = { method: 'GET', path: this.#path, accept: JSON_TYPE };
    return this.#ask(call, (answer) => this.#stateIn(answer), nothingToWipe, signal);
  }

  #stateIn({ body }: Answer): ProviderState {
    const parsed = keyResource.safeParse(told(() => jsonOf(body)));
    if (!parsed.success) throw wrong('The answer is no key.');
    const { id, name, labels, latestVersion } = parsed.data;
    const { announced, retired } = this.#recordIn(labels);
    const versions = Array.from({ length: latestVersion }, (_, at) =>
      standing(at + 1, announced, retired),
    );
    return { keyId: id, keyName: name, announced, versions };
  }

  /** What is announced is the service's to say: without a record nothing is. */
  #recordIn(labels: Readonly<Record<string, string>>): ProviderRecord {
    const { cluster, provider } = this.#options;
    const text = labels[providerLabel(cluster)];
    if (text === undefined) {
      throw new TwofoldError(
        'not_found',
        `The key has no provider of cluster ${cluster}: twofold kms-plugin register makes one.`,
      );
    }
    return requireServing(parseRecord(text), { cluster, provider });
  }

  wrap(request: WrapRequest, signal: AbortSignal): Promise<Uint8Array> {
    const { plaintext, keyVersion } = request;
    const headers = {
      ...headersOf(request),
      [`${NAME.header}Key-Version`]: String(keyVersion),
    };
    const call = this.#post('wrap', plaintext.reveal(), headers);
    return this.#ask(call, (answer) => envelopeIn(answer, keyVersion), nothingToWipe, signal);
  }

  unwrap(request: UnwrapRequest, signal: AbortSignal): Promise<Unwrapped> {
    const call = this.#post('unwrap', request.envelope, headersOf(request));
    return this.#ask(call, openedIn, ({ plaintext }) => plaintext.wipe(), signal);
  }

  /** The service is not asked about it, and has no entry: the log of the agent has. */
  refuse({ operation, uid, failure }: Refused): Promise<never> {
    this.#options.onRefused?.({ operation, code: failure.code, ...(isUuid(uid) && { uid }) });
    return Promise.reject(failure);
  }

  #post(
    operation: 'wrap' | 'unwrap',
    body: Uint8Array,
    headers: Readonly<Record<string, string>>,
  ): Call {
    const path = `${this.#path}/${operation}`;
    return { method: 'POST', path, accept: OCTETS, contentType: OCTETS, body, headers };
  }

  /** What `read` makes of the first answer that it takes; `drop` gets what it made of a later one. */
  async #ask<T>(
    call: Call,
    read: (answer: Answer) => T,
    drop: (late: T) => void,
    signal: AbortSignal,
  ): Promise<T> {
    const headers = { ...this.#headers, ...call.headers };
    const full = { ...call, headers, most: LONGEST_ANSWER };
    /** What each endpoint said of itself when it last answered; the latest is the last. */
    const refused = new Map<Endpoint, TwofoldError>();
    let away = new TwofoldError('deadline_exceeded', this.#nobody());
    const { value, silent } = await hedged<Endpoint, T>(
      {
        places: this.#order(),
        attempt: async ({ connection }, ending) =>
          read(await attempt(connection, { ...full, signal: ending })),
        passes: (error, place, others) => {
          if (!TwofoldError.is(error)) return false;
          refused.delete(place);
          // Once each place has said so, who waits is told at once.
          if (isOfPlace(error) || ELSEWHERE.has(error.code)) {
            refused.set(place, error);
            return others > 0 || refused.size < this.#endpoints.length;
          }
          if (!ERRORS[error.code].retryable) return false;
          away = error;
          return true;
        },
        drop,
        late: () => toldLate([...refused.values()], away),
        times: this.#times,
      },
      signal,
    );
    for (const endpoint of silent) endpoint.slowUntil = performance.now() + SLOW_MS;
    return value;
  }

  /** As they are given, those last that were silent or failed a moment ago. */
  #order(): readonly Endpoint[] {
    const now = performance.now();
    const slow = ({ slowUntil }: Endpoint) => (slowUntil > now ? 1 : 0);
    return this.#endpoints.toSorted((a, b) => slow(a) - slow(b));
  }

  #nobody(): string {
    const places = this.#endpoints.map(({ connection }) => connection.origin);
    return `Nobody answered in time at ${places.join(', ')}.`;
  }
}

function standing(version: number, announced: number, retired: number): ProviderVersion {
  if (version <= retired) return { version, state: 'retired' };
  return { version, state: version <= announced ? 'active' : 'pending' };
}

async function attempt(connection: HttpConnection, call: Call): Promise<Answer> {
  try {
    return await connection.once(call);
  } catch (error) {
    throw failureOf(error);
  }
}

/** What a value is bound to, and the call that it is for: only a UUID, which API servers make, has no secret in it. */
const headersOf = ({
  context,
  uid,
}: Pick<WrapRequest, 'context' | 'uid'>): Record<string, string> => ({
  [`${NAME.header}Aad`]: NO_AAD,
  [`${NAME.header}Encryption-Context`]: Buffer.from(JSON.stringify(context)).toString('base64'),
  ...(uid !== null && isUuid(uid) && { [`${NAME.header}Kubernetes-Uid`]: uid }),
});

/** A client's failure as the provider tells it: the service's own codes stay. */
function failureOf(error: unknown): TwofoldError {
  if (!ClientError.is(error)) return TwofoldError.from(error);
  const { code, message } = error;
  if (code in ERRORS) return new TwofoldError(code as ErrorCode, message, { cause: error });
  return new TwofoldError('service_unreachable', message, { cause: error });
}

const wrong = (detail: string, cause?: unknown) =>
  failureOf(new WrongAnswer('unexpected_answer', detail, cause));

function told<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw wrong(
      ClientError.is(error) ? error.message : 'The answer is not what was asked for.',
      error,
    );
  }
}

function envelopeIn({ body }: Answer, keyVersion: number): Uint8Array {
  const envelope = told(() => parseEnvelope(body));
  if (envelope.keyVersion !== keyVersion) throw wrong('The service wrapped with another version.');
  // Of a record from before the service refused such keys: Status says so, and nothing more is sealed.
  requireProviderSuite(envelope.suite);
  return body;
}

function openedIn({ body, header }: Answer): Unwrapped {
  const plaintext = SecretBytes.own(body);
  const origin = originSchema.safeParse(header(`${NAME.header}Origin`));
  if (origin.success) return { plaintext, origin: origin.data };
  plaintext.wipe();
  throw wrong('The answer does not say who can have made the ciphertext.');
}

const nothingToWipe = () => undefined;
