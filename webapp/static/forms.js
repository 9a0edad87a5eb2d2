// Forms that lead back to the page they are on are sent without leaving it, so that what is open, typed and scrolled to
// stays; and Escape closes what was opened. Without this the browser sends them, and shows the page anew.

import { partsOf, show } from "./parts.js";

const sent = new WeakSet();

addEventListener("submit", (event) => {
  if (!("stays" in event.target.dataset)) return;
  event.preventDefault();
  if (!sent.has(event.target)) send(event.target, event.submitter);
});

addEventListener("keydown", (event) => {
  const opened = event.key === "Escape" && document.activeElement?.closest("details[open]");
  if (opened) close(opened);
});

function close(details) {
  details.querySelector("summary").focus();
  details.open = false;
}

async function send(form, button) {
  sent.add(form);
  refuse(form, "");
  try {
    const body = new URLSearchParams(new FormData(form, button));
    await take(form, await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } }));
  } catch {
    refuse(form, "The server does not answer. It may be done, or not: look before you ask again.");
  } finally {
    sent.delete(form);
  }
}

async function take(form, answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok) return refuse(form, reasonOf(page));
  if (new URL(answer.url).pathname !== location.pathname) return location.assign(answer.url);
  form.reset();
  close(form.closest("details"));
  return show(partsOf(page));
}

function refuse(form, text) {
  form.querySelector(".refusal").textContent = text;
}

// What an error page says, a line for each thing.
function reasonOf(page) {
  const lines = [...page.querySelectorAll("main h1, main .message, main .faults li")].map((each) => each.textContent.trim());
  return lines.join("\n") || "The server did not say why.";
}
