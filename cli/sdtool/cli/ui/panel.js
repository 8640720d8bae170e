const panel = (() => {
  const at = (id) => document.getElementById(id);
  const token = `?${new URLSearchParams({ token: new URLSearchParams(location.search).get("token") })}`;
  const chosen = new Set();
  const lines = at("lines");
  let running = null;

  const tell = (text, level) => {
    const line = document.createElement("li");
    line.className = level;
    line.textContent = text;
    lines.append(line);
    line.scrollIntoView({ block: "nearest" });
  };

  const post = async (path, data = {}) => {
    const answer = await fetch(path + token, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(data),
    });
    const told = await answer.json();
    if (told.error) tell(told.hint ? `${told.error} (${told.hint})` : told.error, "error");
    return told;
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
      const told = JSON.parse(event.data);
      at("label").textContent = told.label;
      at("progress").max = told.total || 1;
      at("progress").value = told.done;
      for (const line of told.lines) tell(line.text, line.level);
      if (told.ended === null) return;
      events.close();
      running = null;
      at("cancel").hidden = true;
      at("ended").textContent = told.ended;
      if (told.label === "reading" && told.ended === "done") location.reload();
      else if (told.ended === "done") done(number);
    };
  };

  const ask = (told) => new Promise((answered) => {
    at("asked").textContent = told.question;
    at("originals").replaceChildren(...told.paths.map((path) => {
      const line = document.createElement("li");
      line.textContent = path;
      return line;
    }));
    at("note").textContent = told.note;
    at("yes").textContent = told.yes;
    at("question").returnValue = "no";
    at("question").addEventListener("close", () => answered(at("question").returnValue), { once: true });
    at("question").showModal();
  });

  const begin = async (path, request, done) => {
    lines.replaceChildren();
    let told = await post(path, request);
    if (told.confirm && await ask(told) === "yes") {
      told = await post(path, { ...request, confirmed: told.confirm });
    }
    if ("run" in told) follow(told.run, done);
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
    else tell("Choose a file first.", "error");
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
    const told = await post("/look");
    if ("run" in told) follow(told.run);
  });
  if (at("panel").dataset.running) follow(Number(at("panel").dataset.running));
  return { at, token, begin };
})();
