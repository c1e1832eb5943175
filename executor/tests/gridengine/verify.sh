#!/bin/bash
# A job verifier as on TSUBAME: a job names one resource type and a run time. The type becomes GPUs of the pretend host.
jsv_on_start() { return; }
jsv_on_verify() {
  local gpus=0 type="" entry
  for entry in f_node:4 h_node:2 q_node:1 node_f:4 node_h:2 node_q:1 gpu_1:1 q_core:0 cpu_4:0; do
    [ "$(jsv_sub_is_param l_hard "${entry%%:*}")" = true ] || continue
    [ -z "$type" ] || { jsv_reject "more than one resource type"; return; }
    type=${entry%%:*}
    gpus=$(( ${entry##*:} * $(jsv_sub_get_param l_hard "$type") ))
  done
  [ -n "$type" ] || { jsv_reject "no resource type (-l node_f=1, node_h=1, node_q=1, ...)"; return; }
  [ "$(jsv_sub_is_param l_hard h_rt)" = true ] || { jsv_reject "no run time (-l h_rt=H:MM:SS)"; return; }
  [ "$gpus" -eq 0 ] || jsv_sub_add_param l_hard gpu "$gpus"
  jsv_correct "$type: gpu=$gpus"
}
. "$SGE_ROOT/util/resources/jsv/jsv_include.sh"
jsv_main
