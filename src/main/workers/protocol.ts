/**
 * What a supervisor and its workers say to each other over the channel between parent and child. None
 * of it is secret: each worker reads configuration, PIN and passwords where the supervisor did.
 */
import type { AddressInfo } from 'node:net';

import type { HsmStatus } from '../../hsm/port.ts';
import type { Readiness, ReadinessCheck } from '../../http/dependencies.ts';
import type { RunningService } from '../running.ts';

export type ListenerName = 'http' | 'admin' | 'metrics';

/** What each worker says of itself when it is asked, and what a worker asks of all of them. */
export type OfOne = 'figures' | 'status';
export type OfAll = 'metrics' | 'status';

/** What a worker has to know before it starts. */
export interface Begin {
  /** From 1. */
  readonly worker: number;
  readonly of: number;
  /** Whether no worker has ever been ready: this one makes what is made once, token and root. */
  readonly first: boolean;
  /** Of the supervisor's; a worker with another does not start. */
  readonly configuration: string;
}

/** How many are ready; `checks` is what a ready one found, for those that are not. */
export interface WholeState {
  readonly ready: number;
  readonly of: number;
  readonly checks: readonly ReadinessCheck[] | null;
}

/** What Node says of an address that cannot be bound. */
export interface BindFailure {
  readonly code: string | undefined;
  readonly address: string | undefined;
  readonly port: number | undefined;
  readonly message: string;
}

export type ToWorker =
  | ({ readonly type: 'begin' } & Begin)
  /** With the connection itself. */
  | { readonly type: 'connection'; readonly listener: ListenerName; readonly id: number }
  | { readonly type: 'bound'; readonly listener: ListenerName; readonly address: AddressInfo }
  | { readonly type: 'not-bound'; readonly listener: ListenerName; readonly failure: BindFailure }
  | ({ readonly type: 'whole' } & WholeState)
  | { readonly type: 'ask'; readonly id: number; readonly what: OfOne }
  | { readonly type: 'answer'; readonly id: number; readonly answer: unknown }
  /** Certificates, passwords, PIN and key sets are to be read again. */
  | { readonly type: 'reload' }
  | { readonly type: 'stop'; readonly hasten: boolean };

export type FromWorker =
  | { readonly type: 'listen'; readonly listener: ListenerName }
  | { readonly type: 'unlisten'; readonly listener: ListenerName }
  /** Sent before anything of the connection is read, so that one without it may go to another worker. */
  | { readonly type: 'taken'; readonly id: number }
  | { readonly type: 'closed'; readonly listener: ListenerName }
  | { readonly type: 'waiting'; readonly status: HsmStatus }
  | { readonly type: 'complete'; readonly service: RunningService }
  | { readonly type: 'failed'; readonly lines: readonly string[] }
  | { readonly type: 'readiness'; readonly readiness: Readiness; readonly instance: string }
  | { readonly type: 'ask'; readonly id: number; readonly what: OfAll }
  | { readonly type: 'answer'; readonly id: number; readonly answer: unknown };
