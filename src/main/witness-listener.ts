/**
 * The listener of a witness: `POST /add-checkpoint` of C2SP tlog-witness and nothing else, by the
 * protocol without a token. It has an address of its own, so that logs of other zones reach it and
 * nothing of the key service.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SIZE_TYPE } from '../audit/witness/protocol.ts';
import type { Witness, WitnessAnswer } from '../audit/witness/witness.ts';
import { TwofoldError } from '../errors.ts';
import { discardBody, readBody } from '../http/body.ts';
import { createListener } from '../http/listener.ts';
import type { TlsOptions } from '../http/listener.ts';
import { Visits } from '../http/visits.ts';
import type { Visit, VisitLimits } from '../http/visits.ts';

/** A note of 64 long signature lines and a proof. */
const BODY = { bytes: 524_288, timeoutMs: 10_000 };

export interface WitnessBounds extends VisitLimits {
  readonly connections: number;
}

/**
 * Each verifies signatures before it knows who asks. A log has a few instances, which are done in milliseconds:
 * who has many connections or requests, and who is slow, goes for those who come.
 */
const BOUNDS: WitnessBounds = { connections: 512, places: 64, atOnce: 16 };
const STALLED_MS = 30_000;
const DRAIN_MS = 5_000;
const PATH = '/add-checkpoint';

export interface WitnessListener {
  readonly address: AddressInfo;
  close(): Promise<void>;
}

export const openWitnessListener = async (
  witness: Pick<Witness, 'addCheckpoint'>,
  at: { readonly host: string; readonly port: number; readonly tls?: TlsOptions },
  onTrouble: (error: unknown) => void,
  bounds: WitnessBounds = BOUNDS,
): Promise<WitnessListener> => {
  const visits = new Visits(bounds);
  const request = (message: IncomingMessage, response: ServerResponse): void => {
    const refused = refusalOf(message);
    if (refused !== null) {
      end(message, response, refused);
      return;
    }
    void answer(witness, visits, message, response).catch((error: unknown) => {
      const status = statusOf(error);
      if (status >= 500 && !TwofoldError.is(error, 'rate_limited')) onTrouble(error);
      end(message, response, status);
    });
  };
  const listener = createListener(
    at,
    { stalledMs: STALLED_MS, connections: bounds.connections },
    {
      request,
      unexpected: (message, response) => end(message, response, 417),
      malformed: (_, socket) => socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'),
    },
  );
  return { address: await listener.listen(), close: () => listener.close(DRAIN_MS) };
};

const refusalOf = ({ url, method }: IncomingMessage): number | null => {
  if (url !== PATH) return 404;
  return method === 'POST' ? null : 405;
};

const statusOf = (error: unknown): number => {
  if (!TwofoldError.is(error)) return 500;
  if (error.code === 'body_too_large') return 413;
  if (error.code === 'malformed_request') return 400;
  return error.code === 'conflict' || error.code === 'rate_limited' ? 503 : 500;
};

const answer = async (
  witness: Pick<Witness, 'addCheckpoint'>,
  visits: Visits,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const { socket } = message;
  const visit = visits.enter(socket.remoteAddress ?? '', () => socket.destroy());
  try {
    await work(witness, visit, message, response);
  } finally {
    visit.end();
  }
};

const work = async (
  witness: Pick<Witness, 'addCheckpoint'>,
  visit: Visit,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const body = await readBody(message, response, BODY);
  await visit.turn();
  const outcome = await witness.addCheckpoint(body.toString('utf8'));
  const [type, text] = contentOf(outcome);
  response.writeHead(outcome.status, { 'Content-Type': type, 'Cache-Control': 'no-store' });
  response.end(text);
};

const contentOf = (outcome: WitnessAnswer): readonly [string, string] => {
  if (outcome.status === 200) return ['text/plain; charset=utf-8', outcome.lines];
  if (outcome.status === 409) return [SIZE_TYPE, `${String(outcome.size)}\n`];
  return ['text/plain; charset=utf-8', ''];
};

const end = (message: IncomingMessage, response: ServerResponse, status: number): void => {
  discardBody(message);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { 'Content-Length': '0', 'Cache-Control': 'no-store' }).end();
};
