import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { describe, expect, it } from '@jest/globals';
import { TwofoldError } from '../../src/errors.ts';
import { OutcomeUnknown } from '../../src/outcome.ts';
import {
  CircuitOpen,
  StatementDeadline,
  SynchronousWaitCancelled,
  classify,
  sqlState,
  storeError,
} from '../../src/store/outcome.ts';
import type { Outcome, Phase } from '../../src/store/outcome.ts';
import { createPool } from '../../src/store/pool.ts';

const coded = (code: string, message = 'm') => Object.assign(new Error(message), { code });

const severe = (code: string, severity: string) => Object.assign(coded(code), { severity });

it('takes a server that answers the request for TLS with an error for one that is away', async () => {
  const server = createServer((socket) => socket.once('data', () => socket.end('E')));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const pool = createPool({ url: `postgres://u@127.0.0.1:${String(port)}/d`, tls: 'require' });
  try {
    const error: unknown = await pool.query('select 1').catch((caught: unknown) => caught);
    expect(classify(error, 'open')).toBe('not_applied');
    expect(classify(error, 'commit')).toBe('not_applied');
  } finally {
    await pool.end();
    server.close();
  }
});

describe('classify', () => {
  it.each<[string, unknown, Phase, Outcome]>([
    ['refused connect', coded('ECONNREFUSED'), 'connect', 'not_applied'],
    ['refused before COMMIT', coded('ECONNREFUSED'), 'open', 'not_applied'],
    ['refused, COMMIT sent', coded('ECONNREFUSED'), 'commit', 'unknown'],
    ['no route before COMMIT', coded('EHOSTUNREACH'), 'open', 'not_applied'],
    ['no route, COMMIT sent', coded('EHOSTUNREACH'), 'commit', 'unknown'],
    ['no network, COMMIT sent', coded('ENETUNREACH'), 'commit', 'unknown'],
    ['panic over a full disk, COMMIT sent', severe('53100', 'PANIC'), 'commit', 'unknown'],
    ['the same in another language', severe('53100', 'PANIK'), 'commit', 'unknown'],
    ['panic over a full disk before COMMIT', severe('53100', 'PANIC'), 'open', 'rejected'],
    ['a full disk, rolled back', severe('53100', 'ERROR'), 'commit', 'rejected'],
    ['an I/O error, rolled back', severe('58030', 'ERROR'), 'commit', 'rejected'],
    ['an I/O error that ended the server', severe('58030', 'PANIC'), 'commit', 'unknown'],
    ['an internal error that ended the session', severe('XX000', 'FATAL'), 'commit', 'unknown'],
    ['an internal error of unknown severity', coded('XX001'), 'commit', 'unknown'],
    ['anything that ended the session', severe('53200', 'FATAL'), 'commit', 'unknown'],
    ['a violation in another language', severe('23505', 'FEHLER'), 'commit', 'rejected'],
    ['pool wait', new Error('timeout exceeded when trying to connect'), 'commit', 'not_applied'],
    [
      'connect deadline',
      new Error('Connection terminated due to connection timeout'),
      'commit',
      'not_applied',
    ],
    ['read-only', coded('25006'), 'commit', 'not_applied'],
    [
      'in recovery',
      Object.assign(severe('XX000', 'ERROR'), {
        message: 'cannot make new WAL entries during recovery',
      }),
      'commit',
      'not_applied',
    ],
    ['starting up', coded('57P03'), 'commit', 'not_applied'],
    ['too many clients', coded('53300'), 'connect', 'not_applied'],
    ['serialization', coded('40001'), 'commit', 'not_applied'],
    ['deadlock', coded('40P01'), 'open', 'not_applied'],
    ['lock timeout', coded('55P03'), 'commit', 'not_applied'],
    ['cancelled before the commit', coded('57014'), 'open', 'not_applied'],
    ['terminated, COMMIT sent', coded('57P01'), 'commit', 'unknown'],
    ['crash, COMMIT sent', coded('57P02'), 'commit', 'unknown'],
    ['terminated, COMMIT not sent', coded('57P01'), 'open', 'not_applied'],
    ['connection class', coded('08006'), 'commit', 'unknown'],
    ['completion unknown', coded('40003'), 'commit', 'unknown'],
    ['reset', coded('ECONNRESET'), 'commit', 'unknown'],
    ['reset before COMMIT', coded('ECONNRESET'), 'open', 'not_applied'],
    ['broken pipe', coded('EPIPE'), 'commit', 'unknown'],
    ['a loss without a code', new Error('Connection terminated unexpectedly'), 'commit', 'unknown'],
    ['deadline', new StatementDeadline(1), 'commit', 'unknown'],
    ['deadline before COMMIT', new StatementDeadline(1), 'open', 'not_applied'],
    ['cancelled synchronous wait', new SynchronousWaitCancelled('n'), 'open', 'unknown'],
    ['circuit', new CircuitOpen('c'), 'commit', 'not_applied'],
    ['unique violation', coded('23505'), 'commit', 'rejected'],
    ['raise exception', coded('P0001'), 'commit', 'rejected'],
    ['our own SQLSTATE', coded('TF006'), 'commit', 'rejected'],
    ['an error of the caller', new TwofoldError('conflict'), 'open', 'rejected'],
    ['a bug', new TypeError('x is not a function'), 'commit', 'rejected'],
    ['Prisma, wrapped by cause', new Error('p', { cause: coded('57P01') }), 'commit', 'unknown'],
    ['Prisma, closed', coded('P1017'), 'commit', 'unknown'],
    ['Prisma, closed, reading', coded('P1017'), 'open', 'not_applied'],
    [
      'Prisma, wrapped in meta',
      { code: 'P2010', meta: { driverAdapterError: { cause: { originalCode: '40001' } } } },
      'commit',
      'not_applied',
    ],
    ['Prisma, unique', { code: 'P2002', meta: {} }, 'commit', 'rejected'],
  ])('%s', (_name, error, phase, outcome) => {
    expect(classify(error, phase)).toBe(outcome);
  });

  it('does not take a Prisma code for a SQLSTATE, but finds the one inside', () => {
    expect(sqlState({ code: 'P2002' })).toBeUndefined();
    expect(sqlState({ code: 'P2010', cause: coded('53100') })).toBe('53100');
    expect(sqlState(coded('EPIPE'))).toBeUndefined();
  });

  it('names the error that callers see', () => {
    expect(storeError(coded('57P01'), 'unknown')).toBeInstanceOf(OutcomeUnknown);
    expect(TwofoldError.is(storeError(coded('57P03'), 'not_applied'), 'database_unavailable')).toBe(
      true,
    );
    expect(TwofoldError.is(storeError(coded('53100'), 'rejected'), 'storage_full')).toBe(true);
    expect(storeError(severe('53100', 'PANIC'), 'unknown')).toBeInstanceOf(OutcomeUnknown);
    const refused = coded('23505');
    expect(storeError(refused, 'rejected')).toBe(refused);
  });
});
