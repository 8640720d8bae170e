const panel = (() => {
  const at = (id) => document.getElementById(id);
  const token = `?${new URLSearchParams({ token: new URLSearchParams(location.search).get("token") })}`;
  const chosen = new Set();
  const lines = at("lines");
  let running = null;

  const report = (text, level) => {
    const line = document.createElement("li");
    line.className = level;
    line.textContent = text;
    lines.append(line);
    line.scrollIntoView({ block: "nearest" });
  };

  const post = async (path, data = {}) => {
    const reply = await fetch(path + token, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(data),
    }).then((answer) => answer.json())
      .catch(() => ({ error: "sdtool has stopped, or has failed: see its terminal" }));
    if (reply.error) report(reply.hint ? `${reply.error} (${reply.hint})` : reply.error, "error");
    return reply;
  };

  const count = () => {
    at("chosen").value = chosen.size === 0 ? "No file is chosen."
      : chosen.size === 1 ? "1 file is chosen." : `${chosen.size} files are chosen.`;
  };

  const follow = (number, done = () => {}) => {
    running = number;
    at("run").hidden = false;
    at("cancel").hidden = false;
    at("ended").textContent = "";
    const events = new EventSource(`/runs/${number}${token}`);
    events.onmessage = (event) => {
      const state = JSON.parse(event.data);
      at("label").textContent = state.label;
      at("progress").max = state.total || 1;
      at("progress").value = state.done;
      for (const line of state.lines) report(line.text, line.level);
      if (state.ended === null) return;
      events.close();
      running = null;
      at("cancel").hidden = true;
      at("ended").textContent = state.ended;
      if (state.label === "reading" && state.ended === "done") location.reload();
      else if (state.ended === "done") done(number);
    };
  };

  const ask = (question) => new Promise((answered) => {
    at("asked").textContent = question.question;
    at("originals").replaceChildren(...question.paths.map((path) => {
      const line = document.createElement("li");
      line.textContent = path;
      return line;
    }));
    at("note").textContent = question.note;
    at("yes").textContent = question.yes;
    at("question").returnValue = "no";
    at("question").addEventListener("close", () => answered(at("question").returnValue), { once: true });
    at("question").showModal();
  });

  const begin = async (path, request, done) => {
    lines.replaceChildren();
    let reply = await post(path, request);
    if (reply.confirm && await ask(reply) === "yes") {
      reply = await post(path, { ...request, confirmed: reply.confirm });
    }
    if ("run" in reply) follow(reply.run, done);
  };

  const work = (verb) => begin("/runs", {
    verb,
    files: [...chosen],
    variant: at("variant").value,
    dtype: at("dtype").value,
    replace: at("replace").checked,
  });

  at("request").addEventListener("submit", (event) => {
    event.preventDefault();
    if (chosen.size) work(event.submitter.value);
    else report("Choose a file first.", "error");
  });
  at("list").addEventListener("change", (event) => {
    if (event.target.checked) chosen.add(event.target.value);
    else chosen.delete(event.target.value);
    count();
  });
  at("choose").addEventListener("click", () => {
    for (const box of at("list").querySelectorAll("input")) {
      box.checked = true;
      chosen.add(box.value);
    }
    count();
  });
  at("clear").addEventListener("click", () => {
    for (const box of at("list").querySelectorAll("input")) box.checked = false;
    chosen.clear();
    count();
  });
  at("cancel").addEventListener("click", () => post(`/runs/${running}/cancel`));
  at("look").addEventListener("click", async () => {
    const reply = await post("/look");
    if ("run" in reply) follow(reply.run);
  });
  if (at("panel").dataset.running) follow(Number(at("panel").dataset.running));
  return { at, token, begin };
})();
