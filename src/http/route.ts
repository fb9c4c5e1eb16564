/**
 * `route()` joins a contract to a handler. It is the only way to make a `Route`, and the app serves
 * nothing else: a route without schemas, plane, operation and a handler that takes the grant of that
 * operation does not compile (promise P4).
 */
import type { ServerResponse } from 'node:http';

import type { Grant, Operation, Principal } from '../access/grant.ts';
import type { BodyFacts, Credentials } from '../access/ports.ts';
import type { AuditDraft } from '../audit/ports.ts';
import type { AnswerForm, RouteContract } from '../contract/route.ts';
import type { SecretBytes } from '../crypto/secret.ts';
import type { EpochStanding } from '../epoch.ts';
import type { TwofoldError } from '../errors.ts';
import type { Backing } from '../keyring/operations.ts';
import type { z } from 'zod';
import type { Line, Lines } from './lines.ts';
import type { AuditNotes } from './notes.ts';
import type { Answerable } from './render.ts';

/** A contract of the planes `use` and `admin`. */
export interface GuardedContract extends RouteContract {
  readonly plane: 'use' | 'admin';
  readonly operation: Operation;
}

/** A contract of the planes that ask for no token. */
export interface PublicContract extends RouteContract {
  readonly plane: 'public' | 'monitoring';
  readonly operation: null;
  readonly body: null;
}

type Output<S> = S extends z.ZodType ? z.output<S> : undefined;

/** The body as its handler gets it: of lines, each with what became of it. */
type Body<C extends GuardedContract> = C['lines'] extends true
  ? readonly Line<Output<C['body']>>[]
  : Output<C['body']>;

/** The answer as its handler gives it. */
type AnswerBody<C extends RouteContract> = C['lines'] extends true
  ? Lines<Answerable<z.output<C['response']>>>
  : Answerable<z.output<C['response']>> | Rerendered;

/** One authorized request with its input checked. */
export interface Call<C extends GuardedContract> {
  readonly grant: Grant<C['operation']>;
  readonly principal: Principal;
  readonly params: Output<C['params']>;
  readonly query: Output<C['query']>;
  readonly headers: Output<C['headers']>;
  readonly body: Body<C>;
  readonly requestId: string;
  /** Resolves once the request has its outcome and will not run again. */
  readonly ended: Promise<unknown>;
  /** Aborted once the connection is gone before the outcome: nobody waits for the answer. */
  readonly gone: () => AbortSignal;
  readonly source: string;
  /** For what outlives the request and asks again whether it still may: who asks, over which connection. */
  readonly credentials: Credentials;
  readonly tlsGroup: string | null;
  /** SHA-256 over method, path and body, for `Idempotency-Key`. */
  readonly requestHash: () => Uint8Array;
  readonly notes: AuditNotes;
  /** The approval under which the request runs. */
  readonly approval: { readonly id: string } | null;
  /** Others have agreed, or it is what they are shown before they do. */
  readonly confirmed: boolean;
  /** What a change stands on beside the grant, and spends. */
  readonly backing: Backing | null;
  /** Gives a secret to the pipeline, which wipes it once the answer has been written. */
  readonly own: (secret: SecretBytes) => SecretBytes;
  /** Authorizes the same operation on another key of the namespace, with what policy reads. */
  readonly grantOn: (key: string, facts: BodyFacts) => Grant<C['operation']>;
  /** Authorizes another operation, on a key of the namespace, with what policy reads. */
  readonly grantFor: <O extends Operation>(
    operation: O,
    key: string,
    facts?: BodyFacts,
  ) => Grant<O>;
  /** Looks up keys that are to be authorized beside the path's; to be awaited before that. */
  readonly resolve: (...keys: readonly string[]) => Promise<void>;
  /** Another operation on the namespace, if it is permitted. */
  readonly grantIf: <O extends Operation>(operation: O) => Grant<O> | null;
  /** The error as the principal may see it: absence of a key (the path's) is told to its readers. */
  readonly visible: (error: unknown, key?: string | null) => TwofoldError;
}

/**
 * An answer; `recorded` is the id of its audit entry when the operation wrote that itself, and `record`
 * makes the entry durable together with what the answer says was done.
 */
export interface Reply<C extends RouteContract> {
  readonly body: AnswerBody<C> | Streamed | Document;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly recorded?: string | null;
  readonly record?: (draft: AuditDraft, standing: EpochStanding) => Promise<string>;
}

/**
 * An answer that goes on after its head. It begins once its audit entry is durable; one that is not to
 * begin is dropped instead.
 */
export class Streamed {
  readonly mediaType: string;
  /** Takes the response over, its head written, and ends it. */
  readonly begin: (response: ServerResponse) => void;
  readonly drop: () => void;

  constructor(mediaType: string, begin: (response: ServerResponse) => void, drop: () => void) {
    this.mediaType = mediaType;
    this.begin = begin;
    this.drop = drop;
  }
}

/** JSON that was rendered inside a transaction and is sent as it stands. */
export class Rerendered {
  readonly json: string;

  constructor(json: string) {
    this.json = json;
  }
}

interface Handler<C extends GuardedContract> {
  /** What policy may read of the body, one or more times (a batch); absent when it reads nothing. */
  readonly facts?: (body: Output<C['body']>) => readonly BodyFacts[];
  readonly handle: (call: Call<C>) => Promise<Reply<C>>;
}

/** What a request of a public route asks for. */
export interface Asked<C extends PublicContract> {
  /** Of those that the contract gives, the form that the client prefers. */
  readonly form: AnswerForm;
  readonly query: Output<C['query']>;
  readonly params: Output<C['params']>;
  readonly ifNoneMatch: string | undefined;
}

/** Answer of a public route: an object of its contract, or a `Document`. */
export interface PublicReply {
  readonly status: number;
  readonly body: object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A whole answer of a media type of its own; nothing in it is secret. */
export class Document {
  readonly mediaType: string;
  readonly text: string | Buffer;

  constructor(mediaType: string, text: string | Buffer) {
    this.mediaType = mediaType;
    this.text = text;
  }
}

export interface GuardedRoute {
  readonly contract: GuardedContract;
  readonly facts: (body: unknown) => readonly BodyFacts[];
  /** Whether policy can read anything of the body. */
  readonly hasFacts: boolean;
  readonly handle: (call: Call<GuardedContract>) => Promise<Reply<RouteContract>>;
}

export interface PublicRoute {
  readonly contract: PublicContract;
  readonly handle: (asked: Asked<PublicContract>) => PublicReply | Promise<PublicReply>;
}

/** Parameters of a path as Express gives them, percent-decoded. */
export type PathParams = Readonly<Record<string, unknown>>;

const made = new WeakSet<object>();

function seal<R extends object>(route: R): R {
  made.add(route);
  return Object.freeze(route);
}

/** Whether the route was made by `route` or `publicRoute`; the app mounts no other. */
export const isMade = (route: object): boolean => made.has(route);

export function route<const C extends GuardedContract>(
  contract: C,
  handler: Handler<C>,
): GuardedRoute {
  // The pipeline parses with the schemas of this very contract, so the types hold at run time.
  const erased = handler as unknown as Handler<GuardedContract>;
  const facts = erased.facts ?? (() => []);
  const hasFacts = erased.facts !== undefined;
  return seal({ contract, facts, hasFacts, handle: erased.handle });
}

export function publicRoute<const C extends PublicContract>(
  contract: C,
  handle: (asked: Asked<C>) => PublicReply | Promise<PublicReply>,
): PublicRoute {
  // The app parses with the schemas of this very contract, as with `route`.
  return seal({ contract, handle });
}
