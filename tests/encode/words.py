"""A small tokenizer, trained on the spot."""

SENTENCES = ["Staff engineer in Zürich", "a nurse, night shift (part time)", "welder 数据 engineer of data"]
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def tokenizer(*, ends=("<s>", "</s>"), **values):
    """A real byte-pair tokenizer, trained on the spot; ``ends`` go around each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES * 9,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet, show_progress=False
        ),
    )
    around = [token for token in ends if token]
    template = " ".join([*ends[:1], "$A:0", *ends[1:]]).strip()
    raw.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, raw.token_to_id(token)) for token in around]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, **SPECIAL, **values)
