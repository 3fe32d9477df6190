// Commands: what each does, whether it came from a key or from a button. Which key stands for which is in keys.js.

export class Commands {
  // `data` returns what the server has sent last; `paint` is called after another batch has come on the screen.
  constructor({ answers, shown, navigation, overlays, layout, data, paint }) {
    Object.assign(this, { answers, shown, navigation, overlays, layout, data, paint });
  }

  // `command` = {do, ...}; `all` in it means the whole selection.
  perform(command) {
    this.overlays.closePreview();
    const places = command.all ? this.shown.chosen : this.shown.here;
    (this.answering(command, places) ?? this.moving(command))();
  }

  // A button answers for the whole selection where there is one.
  press(name) {
    if (name === "accept") this.answers.accept(this.shown.chosen);
    else this.perform({ do: name, text: "" });
  }

  answer(answer) {
    this.answers.answer(answer, this.shown.chosen);
  }

  answering(command, places) {
    return {
      class: () => this.answers.answer({ outcome: "label", class: command.class }, places),
      top: () => this.answers.answerTop(command.place, places),
      outcome: () => this.answers.answer({ outcome: command.outcome }, places),
      accept: () => this.answers.accept(places),
      "accept-rest": () => this.answers.acceptRest(),
      undo: () => this.answers.undo(),
    }[command.do];
  }

  moving(command) {
    const { classes, many } = this.data();
    return {
      move: () => this.shown.arrow(command.to, command.extend, this.layout.columns),
      page: () => this.browse(command.by),
      flag: () => this.overlays.openComment(),
      zoom: () => this.overlays.toggleZoom(),
      help: () => this.overlays.openHelp(classes, many),
      find: () => this.overlays.openFinder(classes, command.text),
      escape: () => this.overlays.closeZoom() || this.shown.select([]),
      nothing: () => {},
    }[command.do];
  }

  browse(by) {
    if (this.navigation.browse(by)) this.paint();
  }
}
