/** The gate before every authenticated route: our headers, the source's standing, the token. */
import { TwofoldError } from '../errors.ts';
import { DeniedCredential } from '../access/denied.ts';
import { credentialsOf } from './credentials.ts';
import { UnauthenticatedGate } from './gate.ts';
import { tooManyHandshakes, wasNotAsked } from './handshakes.ts';
import { GuardedRequest } from './guarded-request.ts';
import { declaredHeaders } from './head.ts';
import { InputReader } from './input.ts';
import type { HttpDependencies, HttpLimits } from './dependencies.ts';
import type { Exchange } from './exchange.ts';
import type { HeaderValues } from './head.ts';
import type {
  Asked,
  GuardedRoute,
  PathParams,
  PublicContract,
  PublicReply,
  PublicRoute,
} from './route.ts';

export class Pipeline {
  readonly #deps: HttpDependencies;
  readonly #limits: HttpLimits;
  readonly #gate: UnauthenticatedGate;

  constructor(deps: HttpDependencies, limits: HttpLimits) {
    this.#deps = deps;
    this.#limits = limits;
    this.#gate = new UnauthenticatedGate(limits);
  }

  /** How requests of one route are answered; the promise never rejects. */
  server(route: GuardedRoute): (exchange: Exchange, params: PathParams) => Promise<void> {
    const reader = new InputReader(route.contract, this.#limits);
    return (exchange, params) => this.#serve(route, reader, exchange, params);
  }

  /**
   * Runs a public route. One that looks for what its path names goes through the gate, and is counted
   * also when it is answered.
   */
  async anonymous(
    { source }: Exchange,
    { contract, handle }: PublicRoute,
    asked: Asked<PublicContract>,
  ): Promise<PublicReply> {
    if (Object.keys(contract.params.shape).length === 0) return handle(asked);
    const reply = await this.#gate.lookup(source, async () => handle(asked));
    this.#deps.audit.countAnonymous(source, 'ok');
    return reply;
  }

  /** Counts and answers a request that never authenticated. */
  async refuse(exchange: Exchange, error: unknown, headers?: Readonly<Record<string, string>>) {
    this.#deps.audit.countAnonymous(exchange.source, TwofoldError.from(error).code);
    await exchange.fail(error, null, headers);
  }

  async #serve(route: GuardedRoute, reader: InputReader, exchange: Exchange, params: PathParams) {
    let guarded: GuardedRequest;
    // What the token is worth is read under this epoch too: a change meanwhile makes the request stale.
    const epoch = this.#deps.epoch.current;
    try {
      const head = declaredHeaders(exchange.request);
      const request = { route, reader, exchange, params, head };
      guarded = new GuardedRequest(this.#deps, request, {
        ...(await this.#authenticate(exchange, head)),
        epoch,
      });
    } catch (error) {
      await this.refuse(exchange, error);
      return;
    }
    await guarded.serve();
  }

  /** Who was denied is known all the same, and has the refusal in the audit log under their name. */
  async #authenticate({ source, request }: Exchange, head: HeaderValues) {
    const credentials = credentialsOf(request, head);
    const shown = (credentials.authorization ?? credentials.certificate) !== undefined;
    // It may have a certificate, which it is asked for over the next connection.
    if (!shown && wasNotAsked(request.socket)) throw tooManyHandshakes();
    try {
      const principal = await this.#gate.pass(source, shown, (admit) =>
        this.#deps.authenticator.authenticate(credentials, admit),
      );
      return { principal, refused: null };
    } catch (error) {
      if (!(error instanceof DeniedCredential)) throw error;
      return { principal: error.principal, refused: error };
    }
  }
}
