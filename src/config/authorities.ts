/** Authorities of client certificates, as a start reads them and `config check` beforehand. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { TwofoldError } from '../errors.ts';

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/gu;

/** @throws TwofoldError invalid_value for a file that holds no authorities */
export const readAuthorities = (path: string): readonly X509Certificate[] => {
  const refuse = (cause?: unknown) =>
    new TwofoldError('invalid_value', `${path} is not PEM of certificates of authorities`, {
      cause,
    });
  let authorities: X509Certificate[];
  try {
    const blocks = readFileSync(path, 'utf8').match(BLOCK) ?? [];
    authorities = blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw refuse(error);
  }
  if (authorities.length === 0 || !authorities.every(({ ca }) => ca)) throw refuse();
  return authorities;
};
