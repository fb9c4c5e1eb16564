import { it, jest } from '@jest/globals';

import { expectMessages } from './cctv-messages.ts';

jest.setTimeout(600_000);

it('CCTV ML-DSA, messages with every kind of rejection: all by both libraries', () =>
  expectMessages(1));
