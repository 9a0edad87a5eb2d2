// Keeps the page live by its event stream. Everything works without this; then the page is as old as it was asked for.

import "./forms.js";
import { partsOf, show } from "./parts.js";
import { localise, searchHere, today, zone } from "./times.js";

const live = document.body.dataset.live;
const link = document.getElementById("link");
const linkText = document.getElementById("link-text");
const trouble = document.getElementById("trouble");
const POLL = 5000;
// The server tells every 10 s that all is well.
const SILENCE = 35000;
let source = null;
let poll = null;
let heardAt = 0;
let toldOn = "";

function say(state, text) {
  link.hidden = false;
  link.dataset.state = state;
  if (linkText.textContent !== text) linkText.textContent = text;
}

function complain(text) {
  trouble.hidden = !text;
  if (trouble.textContent !== text) trouble.textContent = text;
}

function heard() {
  heardAt = performance.now();
  say("live", "Live");
}

function listen() {
  stop();
  heardAt = performance.now();
  source = new EventSource(live);
  source.addEventListener("parts", (event) => {
    complain("");
    heard();
    show(JSON.parse(event.data));
  });
  source.addEventListener("beat", heard);
  source.addEventListener("trouble", (event) => {
    heard();
    complain(event.data);
  });
  source.addEventListener("bye", (event) => {
    stop();
    if (event.data === "end") say("still", "Final");
    else location.reload();
  });
  source.addEventListener("error", () => {
    say("lost", "Reconnecting…");
    // A browser gives up when it is answered with an error: then the page is asked for itself, now and then.
    if (source && source.readyState === EventSource.CLOSED) {
      stop();
      poll = setTimeout(ask, POLL);
    }
  });
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(poll);
  poll = null;
}

async function ask() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected || answer.status === 404) return location.reload();
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      show(partsOf(page));
      say("live", "Live");
      if (document.visibilityState === "visible") listen();
      return undefined;
    }
  } catch {
    // The server is away: asked again below.
  }
  say("lost", "Reconnecting…");
  poll = setTimeout(ask, POLL);
  return undefined;
}

// An error page comes back by itself as soon as the page can be had again.
async function comeBack() {
  try {
    if ((await fetch(location.href, { method: "HEAD" })).ok) return location.reload();
  } catch {
    // The server is away: asked again below.
  }
  setTimeout(comeBack, POLL);
  return undefined;
}

// Times are read anew when the day or the zone's offset is another.
function tellTimes() {
  if (toldOn === today()) return;
  toldOn = today();
  document.getElementById("zone").textContent = zone();
  localise(document);
  searchHere(document);
}

// A hidden page holds nothing open: browsers have few connections to one host, and nobody looks.
function followVisibility() {
  if (document.visibilityState === "hidden") {
    stop();
    say("still", "");
  } else if (!source) {
    listen();
  }
}

function listenAnew() {
  if (!source || performance.now() - heardAt <= SILENCE) return;
  say("lost", "Reconnecting…");
  listen();
}

tellTimes();
setInterval(tellTimes, POLL);
if ("again" in document.body.dataset) setTimeout(comeBack, POLL);
if (live) {
  document.addEventListener("visibilitychange", followVisibility);
  addEventListener("pagehide", stop);
  setInterval(listenAnew, POLL);
  if (document.visibilityState === "visible") listen();
}
