/** What a log says is shown as text and never as what steers a terminal or ends a line. */
import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { printable, printableJson } from '../../../src/audit/verify/printable.ts';

const every = Array.from({ length: 0x110000 }, (_, point) =>
  point >= 0xd800 && point < 0xe000 ? '' : String.fromCodePoint(point),
).join('');
/** Beside the line feeds between members, which no string of JSON holds. */
const STEERS = /[[\p{C}\p{Zl}\p{Zp}]--[\n]]/v;

it('of any text and any JSON nothing steers', () => {
  expect(printable(every)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
  expect(printableJson(JSON.stringify([every], null, 2))).not.toMatch(STEERS);
});

it('JSON is of the same value, and on one line where it was', () => {
  expect(JSON.parse(printableJson(JSON.stringify([every])))).toEqual([every]);
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
      const json = JSON.stringify(value);
      const shown = printableJson(json);
      expect(shown.split(/[\n\v\f\r\u0085\u2028\u2029]/u)).toHaveLength(1);
      expect(JSON.parse(shown)).toEqual(JSON.parse(json));
    }),
  );
});
