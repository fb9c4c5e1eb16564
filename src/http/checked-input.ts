/**
 * The input of one request, read and checked once however often the request runs: a body that was read
 * cannot be read again, and what refused it refuses it each time.
 */
import { readHeaders, readParams, readQuery } from './head.ts';
import type { Exchange } from './exchange.ts';
import type { HeaderValues } from './head.ts';
import type { Input, InputReader } from './input.ts';
import type { Call, GuardedContract, GuardedRoute, PathParams } from './route.ts';

export interface Checked
  extends Input, Pick<Call<GuardedContract>, 'params' | 'query' | 'headers'> {}

/** What arrived. */
export interface Arrival {
  readonly route: GuardedRoute;
  readonly reader: InputReader;
  readonly exchange: Exchange;
  readonly params: PathParams;
  readonly head: HeaderValues;
}

export class CheckedInput {
  readonly #arrival: Arrival;
  #checked: Checked | undefined;
  #refused: { readonly error: unknown } | undefined;

  constructor(arrival: Arrival) {
    this.#arrival = arrival;
  }

  /** Of what was read; null before, and where it was refused. */
  get answerType(): Input['answerType'] | null {
    return this.#checked?.answerType ?? null;
  }

  /** @throws TwofoldError of the 400 family, 406, 413, 415: the same each time, and nothing is left unwiped then */
  async read(): Promise<Checked> {
    if (this.#checked !== undefined) return this.#checked;
    if (this.#refused !== undefined) throw this.#refused.error;
    try {
      this.#checked = await this.#read();
      return this.#checked;
    } catch (error) {
      this.#refused = { error };
      throw error;
    }
  }

  wipe(): void {
    this.#checked?.wipe();
  }

  async #read(): Promise<Checked> {
    const { route, reader, exchange, params, head } = this.#arrival;
    const { contract } = route;
    const { request, response } = exchange;
    const checked = {
      params: readParams(contract, params) as Checked['params'],
      query: readQuery(contract, request.url ?? '') as Checked['query'],
      headers: readHeaders(contract, head) as Checked['headers'],
    };
    return { ...checked, ...(await reader.read(request, response, head)) };
  }
}
