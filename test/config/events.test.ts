import { describe, expect, it } from '@jest/globals';
import { checkConfig } from '../../src/config.ts';

const retention = (text?: string) => {
  const environment = { TWOFOLD_MODE: 'dev' };
  const checked = checkConfig({
    environment:
      text === undefined ? environment : { ...environment, TWOFOLD_EVENTS_RETENTION: text },
  });
  return checked.ok ? checked.config.events.retention : checked.problems.map(({ where }) => where);
};

describe('events', () => {
  it('are kept for 90 days unless told', () => {
    expect(retention()).toBe('P90D');
    expect(retention('P1Y6M')).toBe('P1Y6M');
    expect(retention('P1D')).toBe('P1D');
  });

  it.each(['', '90', 'P', 'PT23H59M', 'p90d', 'P90D ', 'P-1D', 'P101Y'])(
    'refuse to be kept for %j',
    (text) => {
      expect(retention(text)).toEqual(['TWOFOLD_EVENTS_RETENTION']);
    },
  );
});
