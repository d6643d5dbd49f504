// Requests, and what they fail with.

export class Problem extends Error {
  constructor(status, found) {
    super(found.message);
    this.status = status;
    this.code = found.code;
    this.kind = found.kind;
  }
}

const ENDED = {
  code: "ended",
  message: "The explorer does not answer. It was ended, or this machine sleeps: look where varve ui was started.",
};
const LOCKED = {
  code: "token",
  message: "The explorer was started again since: open the new address that varve ui printed.",
};

/** What the API answers. Throws `Problem`; and `AbortError` where the page was left meanwhile. */
export async function get(path, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters ?? {})) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  let answer;
  try {
    answer = await fetch("/api/" + path + (text ? "?" + text : ""), {signal, credentials: "same-origin"});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, ENDED);
  }
  if (answer.status === 403) throw new Problem(403, LOCKED);
  let found;
  try {
    found = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(answer.status, {code: "garbled", message: `The explorer answered ${answer.status} and nothing that can be read.`});
  }
  if (!answer.ok) throw new Problem(answer.status, found.error);
  return found;
}
