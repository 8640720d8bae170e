"""Text and image encoders: what shows them."""

from __future__ import annotations

from sdtool.checkpoint.identify.signs import Sign, Signature

_TEXT = ("", "text_encoder.", "cond_stage_model.transformer.", "cond_stage_model.model.")
_T5 = ("", "transformer.", "text_encoder.")
_LLM = ("model.", "", "model.language_model.", "language_model.model.", "transformer.model.",
        "text_encoder.model.")  # fmt: skip
_Q = "layers.0.self_attn.q_proj.weight"
_Q_NORM = "layers.0.self_attn.q_norm.weight"
_Q_BIAS = "layers.0.self_attn.q_proj.bias"
_BEFORE_MLP = "layers.0.pre_feedforward_layernorm.weight"
_TOKENS = "embed_tokens.weight"
_T5_Q = "encoder.block.0.layer.0.SelfAttention.q.weight"
_CLIPS = (("CLIP-L", 768), ("OpenCLIP ViT-H", 1024), ("OpenCLIP ViT-bigG", 1280))
_PICTURE = "vision_model.embeddings.class_embedding"
_VOCABULARIES = (("UMT5", 256384), ("mT5", 250112), ("ByT5", 384), ("ByT5", 1510), ("T5", 32128))
"""Rows of the token table. 1510 is ByT5 with the glyphs of Glyph-ByT5, as in HunyuanImage."""
_T5_SIZES = (("XXL", 4096), ("XL", 2048), ("large", 1024), ("base", 768), ("small", 512))
_LANGUAGE: tuple[tuple[str, tuple[Sign, ...], str], ...] = (
    ("Gemma 3", (_Q, _BEFORE_MLP, _Q_NORM), "transformers Gemma3TextModel"),
    ("Gemma 2", (_Q, _BEFORE_MLP), "transformers Gemma2Model"),
    ("Qwen3", (_Q, _Q_NORM, (_TOKENS, 0, 151936)), "transformers Qwen3Model"),
    (
        "Qwen2.5-VL",
        (_Q, _Q_BIAS, "^visual.patch_embed.proj.weight"),
        "transformers Qwen2_5_VLModel",
    ),
    (
        "Qwen2.5-VL",
        (_Q, _Q_BIAS, "^model.visual.patch_embed.proj.weight"),
        "transformers 5 Qwen2_5_VLModel",
    ),
    ("Qwen2", (_Q, _Q_BIAS, (_TOKENS, 0, 151936)), "transformers Qwen2Model"),
    ("Qwen2", (_Q, _Q_BIAS, (_TOKENS, 0, 152064)), "transformers Qwen2Model"),
    ("Llama 3", (_Q, (_TOKENS, 0, 128256)), "transformers LlamaModel"),
    ("Llama 3", (_Q, (_TOKENS, 0, 128320)), "HunyuanVideo's llava-llama-3-8b"),
    ("Mistral", (_Q, (_TOKENS, 0, 131072)), "transformers MistralModel"),
    ("language model", (_Q, _TOKENS), "transformers LlamaModel and its kin"),
)

ENCODERS: tuple[Signature, ...] = (
    # --- whole CLIP models: programs take them as text encoders
    *(
        Signature("text-encoder", name, "with its image encoder",
                  (("text_model.embeddings.token_embedding.weight", 1, width), _PICTURE),
                  "transformers CLIPModel", _TEXT)
        for name, width in _CLIPS
    ),
    *(
        Signature("clip-vision", name, None, (("vision_model.embeddings.class_embedding", 0,
                  width),),
                  "transformers CLIPVisionModel; ComfyUI clip_vision.py")
        for name, width in (("CLIP ViT-L", 1024), ("CLIP ViT-H", 1280), ("CLIP ViT-bigG", 1664))
    ),
    *(
        Signature("clip-vision", "SigLIP", None, signs, "transformers SiglipVisionModel")
        for signs in (
            ("vision_model.head.probe",),
            ("head.probe", "embeddings.patch_embedding.weight"),
        )
    ),
    Signature("clip-vision", "DINOv2", None, ("embeddings.mask_token", "embeddings.cls_token",
              "encoder.layer.0.norm1.weight"), "transformers Dinov2Model"),
    Signature("clip-vision", "CLIP", None, ("vision_model.embeddings.class_embedding",),
              "transformers CLIPVisionModel"),
    Signature("clip-vision", "OpenCLIP", "with its text encoder",
              ("visual.class_embedding", "token_embedding.weight"), "mlfoundations/open_clip"),
    Signature("clip-vision", "OpenCLIP", None, ("visual.class_embedding",),
              "mlfoundations/open_clip"),
    *(
        Signature("text-encoder", name, None,
                  ((f"{level}embeddings.token_embedding.weight", 1, width),
                   f"{level}final_layer_norm.weight"),
                  "transformers CLIPTextModel", _TEXT)
        for level in ("text_model.", "")
        for name, width in _CLIPS
    ),
    Signature("text-encoder", "CLIP", "non-standard size",
              ("text_model.embeddings.token_embedding.weight",), "transformers CLIPTextModel",
              _TEXT),
    Signature("text-encoder", "CLIP", "non-standard size",
              ("embeddings.token_embedding.weight", "encoder.layers.0.self_attn.k_proj.weight",
               "final_layer_norm.weight"), "transformers 5 CLIPTextModel", _TEXT),
    *(
        Signature("text-encoder", name, None,
                  (("token_embedding.weight", 1, width), "transformer.resblocks.0.ln_1.weight"),
                  "mlfoundations/open_clip transformer.py", _TEXT)
        for name, width in _CLIPS
    ),
    *(
        Signature("text-encoder", f"{name}-{size}", None, ((_T5_Q, 1, width), (tokens, 0, rows)),
                  f"transformers {name}EncoderModel", _T5)
        for name, rows in _VOCABULARIES
        for tokens in ("shared.weight", "encoder.embed_tokens.weight")
        for size, width in _T5_SIZES
    ),
    *(
        Signature("text-encoder", name, None, (_T5_Q, ("shared.weight", 0, rows)),
                  f"transformers {name}EncoderModel", _T5)
        for name, rows in _VOCABULARIES
    ),
    Signature("text-encoder", "UMT5-XXL", None, (("token_embedding.weight", 0, 256384),
              ("blocks.0.attn.q.weight", 1, 4096)), "Wan-Video wan/modules/t5.py", _T5),
    *(
        Signature("text-encoder", f"T5-{size}", None, ((_T5_Q, 1, width),),
                  "transformers T5EncoderModel", _T5)
        for size, width in _T5_SIZES
    ),
    *(
        Signature("text-encoder", f"{name}-{size}", None,
                  (("enc.blk.0.attn_q.weight", 1, width), ("token_embd.weight", 0, rows)),
                  "llama.cpp gguf-py constants.py (T5ENCODER)")
        for name, rows in _VOCABULARIES
        for size, width in _T5_SIZES
    ),
    Signature("text-encoder", "T5", "non-standard size", (_T5_Q,), "transformers T5EncoderModel",
              _T5),
    Signature("text-encoder", "XLM-RoBERTa", None, ("roberta.embeddings.word_embeddings.weight",),
              "A1111 sd_models_config.py", ("", "cond_stage_model.")),
    Signature("text-encoder", "ChatGLM3", None,
              ("encoder.layers.0.self_attention.query_key_value.weight",),
              "THUDM/chatglm3-6b modeling_chatglm.py", ("", "transformer.", "text_encoder.")),
    *(
        Signature("text-encoder", name, None, signs, source, _LLM)
        for name, signs, source in _LANGUAGE
    ),
)  # fmt: skip
