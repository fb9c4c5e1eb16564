/** One text for one content: what differs in anything has another. */
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { describe, expect, it } from '@jest/globals';
import { bodyHash, canonicalJson, requestHash } from '../../src/http/canonical.ts';

describe('the canonical text of a body', () => {
  it('has members by name, without those that are undefined, and bytes as base64', () => {
    const bare: unknown = Object.assign(Object.create(null) as object, { z: 1, a: [null, 'x'] });
    const body = { b: bare, a: new Uint8Array([1, 2]), c: undefined, d: Buffer.from('d') };
    expect(canonicalJson(body)).toBe('{"a":"AQI=","b":{"a":[null,"x"],"z":1},"d":"ZA=="}');
  });

  it('has the moment of a date, whatever it was written as', () => {
    const at = (text: string) => canonicalJson({ upgrade: { notBefore: new Date(text) } });
    expect(at('2035-01-01T00:00:00Z')).toBe('{"upgrade":{"notBefore":"2035-01-01T00:00:00.000Z"}}');
    expect(at('2035-01-01T00:00:00.000Z')).toBe(at('2035-01-01T00:00:00Z'));
    expect(() => at('never')).toThrow(RangeError);
  });

  it('is refused for what keeps anything out of its members', () => {
    class Hidden {
      readonly #value = 1;
      get value() {
        return this.#value;
      }
    }
    for (const value of [new Map([[1, 2]]), new Set([1]), new URL('http://a'), new Hidden()]) {
      expect(() => canonicalJson({ value })).toThrow(TypeError);
    }
  });

  it('makes other hashes of other dates', () => {
    const request = Object.assign(new IncomingMessage(new Socket()), {
      method: 'PUT',
      url: '/v1/x',
    });
    const [far, soon] = [{ at: new Date(1) }, { at: new Date(2) }];
    expect(bodyHash(far)).not.toEqual(bodyHash(soon));
    expect(requestHash(request, far)).not.toEqual(requestHash(request, soon));
  });
});
