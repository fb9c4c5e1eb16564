/**
 * The body of a request as the contract's object, from JSON or from the byte form of the route.
 * Whoever reads it disposes of it: `wipe` overwrites the body and every secret decoded from it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { readBase64 } from '../contract/base64.ts';
import { SENSITIVE_FIELDS } from '../contract/sensitive.ts';
import { TwofoldError } from '../errors.ts';
import { hasBody, readBody } from './body.ts';
import { parseJson } from './json.ts';
import { readLines } from './lines.ts';
import { answerTypeOf, bodyTypeOf } from './negotiate.ts';
import { refusal } from './refusal.ts';
import type { ByteForm, RouteContract } from '../contract/route.ts';
import type { RawText } from '../contract/scalars.ts';
import type { HeaderValues } from './head.ts';
import type { AnswerType, BodyType } from './negotiate.ts';

/** An empty file is a message like any other, where the body is bytes. */
const isEmptyBytes = ({ bytes }: RouteContract, { headers }: IncomingMessage): boolean =>
  bytes !== null && headers['content-type'] === 'application/octet-stream';

/** Bounds of bodies. */
export interface InputLimits {
  /** Body of a single request, bytes. */
  readonly bodyBytes: number;
  /** Largest plaintext of one wrap, bytes. */
  readonly wrapBytes: number;
  readonly batchItems: number;
  /** Body of a batch, bytes. */
  readonly batchBytes: number;
  /** Longest time that a body may take, ms. */
  readonly bodyTimeoutMs: number;
}

export interface Input {
  readonly body: unknown;
  readonly answerType: AnswerType;
  readonly wipe: () => void;
}

const NO_FIELDS: ReadonlySet<string> = new Set();
const nothing = () => undefined;

/** JSON pointer (RFC 6901). */
const pointer = (path: readonly PropertyKey[]) =>
  path.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

function checkEncoding(request: IncomingMessage): void {
  const encoding = request.headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity') return;
  throw new TwofoldError('unsupported_media_type', 'Bodies are taken without content encoding.');
}

/** A batch is counted before any of its items is looked at. */
function checkBatch(value: unknown, most: number): void {
  const items = (value as { readonly items?: unknown } | null)?.items;
  if (Array.isArray(items) && items.length > most) {
    throw new TwofoldError('batch_too_large', `A batch has at most ${most} items.`);
  }
}

/** The JSON object that base64 text in a header holds. */
function headerJson(text: string): unknown {
  const bytes = readBase64(Buffer.from(text));
  if (bytes !== undefined) return parseJson(bytes, NO_FIELDS).value;
  throw new TwofoldError('invalid_base64', 'A header is not canonical padded base64 of JSON.');
}

function headerMember(member: string, text: string): unknown {
  if (member === 'encryptionContext') return headerJson(text);
  if (member !== 'keyVersion') return text;
  // Anything else than digits stays text, which the schema refuses.
  return /^[1-9][0-9]*$/.test(text) ? Number(text) : text;
}

/** The object that a byte body and its headers stand for. */
function objectOf(
  form: ByteForm,
  member: string,
  body: Buffer,
  type: BodyType,
  head: HeaderValues,
) {
  const object: Record<string, unknown> = {};
  object[member] = type === 'text/plain' ? body.toString('latin1') : body;
  for (const [header, name] of Object.entries(form.inputs)) {
    const text = head[header];
    if (text !== undefined) object[name] = headerMember(name, text);
  }
  return object;
}

/** Headers that stand for members have no meaning beside a JSON body. */
function refuseMemberHeaders(form: ByteForm | null, head: HeaderValues): void {
  const stray = Object.keys(form?.inputs ?? {}).find((header) => head[header] !== undefined);
  if (stray !== undefined) {
    throw new TwofoldError('unknown_parameter', `${stray} goes with a byte body only.`);
  }
}

export class InputReader {
  readonly #route: RouteContract;
  readonly #limits: InputLimits;

  constructor(route: RouteContract, limits: InputLimits) {
    this.#route = route;
    this.#limits = limits;
  }

  /**
   * Reads and checks the body.
   * @throws TwofoldError of the 400 family, 406, 413, 415; nothing is left unwiped then
   */
  async read(
    request: IncomingMessage,
    response: ServerResponse,
    head: HeaderValues,
  ): Promise<Input> {
    const { accept } = request.headers;
    if (!hasBody(request) && !isEmptyBytes(this.#route, request)) {
      const answerType = answerTypeOf(this.#route, 'json', accept);
      refuseMemberHeaders(this.#route.bytes, head);
      return { body: this.#absent(), answerType, wipe: nothing };
    }
    if (this.#route.body === null) {
      throw new TwofoldError('malformed_request', 'This route takes no body.');
    }
    const type = bodyTypeOf(this.#route, request.headers['content-type']);
    checkEncoding(request);
    const answerType = answerTypeOf(this.#route, type, accept);
    const bytes = await readBody(request, response, this.#bounds());
    return { answerType, ...this.#parse(bytes, type, head) };
  }

  #bounds() {
    const { bodyBytes, batchBytes, bodyTimeoutMs } = this.#limits;
    const batch = this.#route.limit === 'batch';
    return { bytes: batch ? batchBytes : bodyBytes, timeoutMs: bodyTimeoutMs };
  }

  /** No body is the empty object, so that `rotate` needs none. */
  #absent(): unknown {
    const { body, lines } = this.#route;
    return body === null ? undefined : this.#check(lines ? Buffer.alloc(0) : {});
  }

  #parse(bytes: Buffer, type: BodyType, head: HeaderValues): Omit<Input, 'answerType'> {
    const raws: RawText[] = [];
    const wipe = () => {
      bytes.fill(0);
      for (const raw of raws) raw.wipe();
    };
    try {
      return { body: this.#check(this.#value(bytes, type, head, raws)), wipe };
    } catch (error) {
      wipe();
      throw error;
    }
  }

  #value(bytes: Buffer, type: BodyType, head: HeaderValues, raws: RawText[]): unknown {
    const form = this.#route.bytes;
    const member = form?.member ?? null;
    if (form !== null && member !== null && type !== 'json') {
      return objectOf(form, member, bytes, type, head);
    }
    refuseMemberHeaders(form, head);
    if (this.#route.lines) return bytes;
    const parsed = parseJson(bytes, SENSITIVE_FIELDS);
    raws.push(...parsed.raws);
    if (this.#route.limit === 'batch') checkBatch(parsed.value, this.#limits.batchItems);
    return parsed.value;
  }

  #check(value: unknown): unknown {
    const schema = this.#route.body;
    if (schema === null) return undefined;
    if (this.#route.lines) return readLines(value as Buffer, schema, this.#limits.batchItems);
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    throw refusal(parsed.error, schema, 'unknown_field', pointer, value);
  }
}
